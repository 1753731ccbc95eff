// Plays the reply through a small jitter buffer and counts what was really played of each item.
// In: {item, pcm: Int16Array} · {end: item} · {flush: true}
// Out: {playing: bool} · {flushed: item, samples}

const JITTER = 0.06 * sampleRate; // buffered before a reply starts, and again after it ran dry

class Playback extends AudioWorkletProcessor {
  #queue = []; // {item, pcm, at}
  #buffered = 0;
  #running = false;
  #ended = false;
  #item = "";
  #played = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data.flush) this.#flush();
      else if (data.end) this.#ended = true;
      else this.#add(data);
    };
  }

  process(_, [[output]]) {
    if (!this.#running && this.#buffered && (this.#ended || this.#buffered >= JITTER)) {
      this.#run(true);
    }
    if (this.#running) this.#fill(output);
    return true;
  }

  #add({ item, pcm }) {
    this.#ended = false;
    this.#queue.push({ item, pcm, at: 0 });
    this.#buffered += pcm.length;
  }

  #fill(output) {
    for (let i = 0; i < output.length; i++) {
      const head = this.#queue[0];
      if (!head) return this.#run(false);
      if (head.item !== this.#item) {
        this.#item = head.item;
        this.#played = 0;
      }
      output[i] = head.pcm[head.at++] / 32768;
      this.#played++;
      this.#buffered--;
      if (head.at === head.pcm.length) this.#queue.shift();
    }
  }

  #flush() {
    const next = this.#queue[0]?.item;
    if (next) {
      const samples = next === this.#item ? this.#played : 0;
      this.port.postMessage({ flushed: next, samples });
    }
    this.#queue = [];
    this.#buffered = 0;
    if (this.#running) this.#run(false);
  }

  #run(on) {
    this.#running = on;
    this.port.postMessage({ playing: on });
  }
}

registerProcessor("playback", Playback);
