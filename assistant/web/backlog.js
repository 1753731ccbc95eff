// What was sent of late, to be sent again where a connection broke before it arrived. Pure.

const MOST = 1600; // messages: thirty seconds of audio in frames of 20 ms, and what is between them

export class Backlog {
  #messages = [];
  #forgotten = 0; // how many there were before those

  add(message) {
    this.#messages.push(message);
    if (this.#messages.length <= MOST) return;
    this.#messages.shift();
    this.#forgotten++;
  }

  // The messages after the first `count` of the call, as far as they are still kept.
  after(count) {
    return this.#messages.slice(Math.max(0, count - this.#forgotten));
  }
}
