// The microphone as 20 ms frames of 16-bit samples at 24 kHz, whatever rate the device runs at.

const RATE = 24000;
const FRAME = RATE / 50;
const SILENCE = new Float32Array(128);

class Capture extends AudioWorkletProcessor {
  #frame = new Int16Array(FRAME);
  #filled = 0;
  #step = sampleRate / RATE; // input samples to one output sample
  #left = this.#step; // how much of the current output sample's span is still to come
  #sum = 0;

  // A device that pauses gives no input at all; the server must still hear time go by.
  process([[input]]) {
    for (const sample of input ?? SILENCE) this.#take(sample);
    return true;
  }

  // Each output sample is the mean of the input over its span: enough of a low-pass for speech,
  // and nothing but a copy when the rates are equal.
  #take(sample) {
    if (this.#left > 1) {
      this.#sum += sample;
      this.#left -= 1;
      return;
    }
    const mean = (this.#sum + sample * this.#left) / this.#step;
    const rest = 1 - this.#left;
    this.#sum = sample * rest;
    this.#left = this.#step - rest;
    this.#emit(mean);
  }

  #emit(value) {
    this.#frame[this.#filled++] = Math.max(-1, Math.min(1, value)) * 32767;
    if (this.#filled < FRAME) return;
    this.port.postMessage(this.#frame.buffer, [this.#frame.buffer]);
    this.#frame = new Int16Array(FRAME);
    this.#filled = 0;
  }
}

registerProcessor("capture", Capture);
