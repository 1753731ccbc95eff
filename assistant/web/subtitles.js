// The kiosk's captions: the latest words of each side, large, and nothing older.

import { element } from "./captions.js";
import { heardOf, stretches, Transcript } from "./transcript.js";

export class Subtitles {
  #places;
  #announcer;
  #transcript = new Transcript();

  constructor(caller, reply, announcer) {
    this.#places = { you: caller, me: reply };
    this.#announcer = announcer;
  }

  // What is shown until somebody says something.
  invite(text) {
    this.#places.me.textContent = text;
  }

  add(side, item, words, ms) {
    const begins = !this.#transcript.get(item);
    const line = this.#transcript.add(side, item, words, ms);
    // A caller's new turn takes the answer to the one before away.
    if (begins && side === "you") this.#places.me.textContent = "";
    this.#show(line);
  }

  finish(side, item, text) {
    const line = this.#transcript.finish(side, item, text);
    this.#show(line);
    if (line) this.#announcer.textContent = heardOf(line);
  }

  hear(item, text) {
    this.#show(this.#transcript.hear(item, text));
  }

  played(item, ms) {
    this.#show(this.#transcript.play(item, ms));
  }

  clear() {
    this.#transcript = new Transcript();
    for (const place of [...Object.values(this.#places), this.#announcer]) place.textContent = "";
  }

  #show(line) {
    if (!line || line !== this.#transcript.lines.findLast(({ side }) => side === line.side)) return;
    const place = this.#places[line.side];
    place.replaceChildren(...stretches(line).map(element));
    [...place.querySelectorAll(".said")].at(-1)?.scrollIntoView({ block: "nearest" });
  }
}
