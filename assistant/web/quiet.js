// How long nobody has had the floor. Pure: time comes in, in milliseconds of any clock.

export class Quiet {
  #limit;
  #since = 0;
  #busy = false;

  constructor(limit) {
    this.#limit = limit;
  }

  // Somebody has the floor from `now` on, or nobody.
  floor(busy, now) {
    this.#busy = busy;
    this.#since = now;
  }

  // Milliseconds until the call is to be ended; the whole limit while somebody has the floor.
  left(now) {
    return this.#busy ? this.#limit : Math.max(0, this.#limit - (now - this.#since));
  }
}
