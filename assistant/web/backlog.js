// The microphone's latest audio, kept until it is too old to be asked for again. Pure.

const FRAME_MS = 20;

export class Backlog {
  #frames = [];
  #dropped = 0; // frames that were kept once, before those in #frames
  #most;

  constructor(seconds = 30) {
    this.#most = (seconds * 1000) / FRAME_MS;
  }

  add(frame) {
    this.#frames.push(frame);
    if (this.#frames.length <= this.#most) return;
    this.#frames.shift();
    this.#dropped++;
  }

  // The frames that come after the first `ms` of the call, as far as they are still kept.
  after(ms) {
    return this.#frames.slice(Math.max(0, Math.round(ms / FRAME_MS) - this.#dropped));
  }
}
