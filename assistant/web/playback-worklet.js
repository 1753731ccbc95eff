// Plays the reply through a small jitter buffer and counts what was really played of each item.
// In: {item, pcm: Int16Array} · {end: true} · {flush: true}
// Out: {playing: bool, held: bool} · {flushed: item, samples} · {pcm, item, samples} every 20 ms:
// what went to the loudspeaker, and how much of which item had been played by its end

const JITTER = 0.06 * sampleRate; // buffered before a reply starts, and again after it ran dry
const FRAME = sampleRate / 50;

class Playback extends AudioWorkletProcessor {
  #queue = []; // {item, pcm, at}
  #buffered = 0;
  #running = false;
  #ended = true; // all of the latest item has come
  #item = "";
  #played = 0;
  #frame = new Int16Array(FRAME);
  #filled = 0;

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
    for (let i = 0; i < output.length; i++) {
      const sample = this.#running ? this.#next() : 0;
      output[i] = sample / 32768;
      this.#keep(sample);
    }
    return true;
  }

  #add({ item, pcm }) {
    this.#ended = false;
    this.#queue.push({ item, pcm, at: 0 });
    this.#buffered += pcm.length;
  }

  #next() {
    const head = this.#queue[0];
    if (!head) {
      this.#run(false);
      return 0;
    }
    if (head.item !== this.#item) {
      this.#item = head.item;
      this.#played = 0;
    }
    const sample = head.pcm[head.at++];
    this.#played++;
    this.#buffered--;
    if (head.at === head.pcm.length) this.#queue.shift();
    return sample;
  }

  #keep(sample) {
    this.#frame[this.#filled++] = sample;
    if (this.#filled < FRAME) return;
    const pcm = this.#frame;
    this.port.postMessage({ pcm, item: this.#item, samples: this.#played }, [pcm.buffer]);
    this.#frame = new Int16Array(FRAME);
    this.#filled = 0;
  }

  #flush() {
    for (const item of new Set(this.#queue.map((part) => part.item))) {
      this.port.postMessage({ flushed: item, samples: item === this.#item ? this.#played : 0 });
    }
    this.#queue = [];
    this.#buffered = 0;
    this.#ended = true;
    this.#run(false);
  }

  // Dry before its end, the reply is held: by the server, or by the network.
  #run(on) {
    this.#running = on;
    this.port.postMessage({ playing: on, held: !on && !this.#ended });
  }
}

registerProcessor("playback", Playback);
