// Captions of both sides, one line an item.

const WHO = { you: "You", me: "Conch" };

export class Captions {
  #list;
  #lines = new Map(); // item id -> the element that holds its words

  constructor(list) {
    this.#list = list;
  }

  // More words of an item that is still being said.
  add(side, item, words) {
    this.#line(side, item).append(words);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  // The item is complete; `text`, when given, is its final wording.
  finish(side, item, text) {
    if (text === undefined && !this.#lines.has(item)) return;
    const line = this.#line(side, item);
    line.className = "";
    if (text !== undefined) line.textContent = text;
    if (!line.textContent.trim()) this.#forget(item);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  // Of an interrupted item only `text` was heard: strike the rest through.
  heard(item, text) {
    const line = this.#lines.get(item);
    if (!line || !line.textContent.startsWith(text)) return;
    const unheard = document.createElement("del");
    unheard.textContent = line.textContent.slice(text.length);
    line.className = "";
    line.replaceChildren(text, ...(unheard.textContent.trim() ? [unheard] : []));
  }

  #line(side, item) {
    if (!this.#lines.has(item)) {
      const row = document.createElement("li");
      const who = document.createElement("span");
      const words = document.createElement("span");
      row.className = side;
      who.className = "who";
      who.textContent = WHO[side];
      words.className = "partial";
      row.append(who, words);
      this.#list.append(row);
      this.#lines.set(item, words);
    }
    return this.#lines.get(item);
  }

  #forget(item) {
    this.#lines.get(item).parentElement.remove();
    this.#lines.delete(item);
  }
}
