// Who has the floor, as a shape that breathes with the voice and as words; style.css moves it.

import { t } from "./texts.js";

const FALL = 0.85; // of its size, kept each 20 ms: a voice's gaps must not make it flicker

export class Floor {
  #shape;
  #status;
  #loud = { you: 0, me: 0 };

  constructor(shape, status) {
    this.#shape = shape;
    this.#status = status;
  }

  show(state) {
    this.#shape.dataset.state = state;
    this.#status.dataset.text = `floor.${state}`;
    this.#status.textContent = t(`floor.${state}`);
    if (state === "idle") for (const side of ["you", "me"]) this.level(side, 0);
  }

  level(side, loud) {
    const before = this.#loud[side];
    this.#loud[side] = loud ? Math.max(loud, before * FALL) : before * FALL;
    if (this.#loud[side] < 0.01) this.#loud[side] = 0;
    if (this.#loud[side] === before) return;
    this.#shape.parentElement.style.setProperty(`--${side}`, this.#loud[side].toFixed(3));
  }
}
