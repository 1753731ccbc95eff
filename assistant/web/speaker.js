// The loudspeaker of one call. Make it in the click that begins the call: browsers let a page
// sound only then.

import { RATE, fromBase64 } from "./pcm.js";

export class Speaker {
  #context = new AudioContext({ sampleRate: RATE });
  #port;
  #handlers;

  // onFrame(pcm, item, ms): the next 20 ms went out, `ms` of `item` by then;
  // onPlaying(playing, held): a reply's sound begins or stops, `held` when more of it must come;
  // onFlushed(item, ms): how much of it had been heard when flush() cut it off.
  constructor(handlers) {
    this.#handlers = handlers;
    this.#context.resume();
  }

  async open() {
    await this.#context.audioWorklet.addModule("playback-worklet.js");
    const node = new AudioWorkletNode(this.#context, "playback", { numberOfInputs: 0 });
    node.connect(this.#context.destination);
    node.port.onmessage = ({ data }) => this.#on(data);
    this.#port = node.port;
  }

  // Milliseconds from the worklet to the ear.
  get latency() {
    return 1000 * (this.#context.outputLatency || this.#context.baseLatency || 0);
  }

  play(item, base64) {
    this.#port.postMessage({ item, pcm: fromBase64(base64) });
  }

  end() {
    this.#port.postMessage({ end: true });
  }

  flush() {
    this.#port?.postMessage({ flush: true });
  }

  close() {
    if (this.#context.state !== "closed") this.#context.close();
  }

  #on(data) {
    const ms = (1000 * data.samples) / RATE;
    if ("playing" in data) this.#handlers.onPlaying(data.playing, data.held);
    else if ("flushed" in data) {
      this.#handlers.onFlushed(data.flushed, Math.max(0, Math.round(ms - this.latency)));
    } else this.#handlers.onFrame(data.pcm, data.item, ms);
  }
}
