// Captions of both sides, one line an item. What a screen reader is told are whole lines only:
// words that come one by one would drown it.

import { heardOf, stretches } from "./transcript.js";
import { t } from "./texts.js";

const ELEMENT = { said: "span", coming: "span", unheard: "del" };
const TOLD = 4; // announcements that are kept, so that none is lost while it waits
const NEAR = 80; // pixels from the end that still count as reading along

export class Captions {
  #list;
  #scroller;
  #announcer;
  #rows = new Map(); // item -> {row, who, words, shown}

  // `announcer` is a polite live region that nobody sees.
  constructor(list, scroller, announcer) {
    this.#list = list;
    this.#scroller = scroller;
    this.#announcer = announcer;
  }

  show(line) {
    const { row, words } = this.#row(line);
    const spans = stretches(line).filter(({ text }) => text);
    const along = this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight;
    row.dataset.final = line.final;
    words.replaceChildren(...spans.map(element));
    if (along < NEAR) this.end();
  }

  // Tell a line that will not change any more, once.
  announce(line) {
    const heard = heardOf(line).trim();
    if (heard) this.tell(`${t(line.side)}: ${heard}`);
  }

  // Tell a screen reader, after what it is still saying.
  tell(text) {
    const told = document.createElement("p");
    told.textContent = text;
    this.#announcer.append(told);
    if (this.#announcer.childElementCount > TOLD) this.#announcer.firstElementChild.remove();
  }

  // A picture that was shown, above the words of its line.
  picture(line, image) {
    this.#row(line).words.before(image);
    this.end();
  }

  remove(item) {
    this.#rows.get(item)?.row.remove();
    this.#rows.delete(item);
  }

  clear() {
    this.#list.replaceChildren();
    this.#rows.clear();
  }

  // Scroll to the newest words.
  end() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #row(line) {
    if (!this.#rows.has(line.item)) {
      const row = document.createElement("li");
      const who = document.createElement("span");
      const words = document.createElement("span");
      row.className = line.side;
      who.className = "who";
      who.dataset.text = line.side;
      who.textContent = t(line.side);
      words.className = "words";
      row.append(who, words);
      this.#list.append(row);
      this.#rows.set(line.item, { row, words });
    }
    return this.#rows.get(line.item);
  }
}

export function element({ kind, text }) {
  const made = document.createElement(ELEMENT[kind]);
  made.className = kind;
  made.textContent = text;
  return made;
}
