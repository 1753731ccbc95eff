// Both sides of a call as a WAV file, the caller left and Conch right: what the microphone gave
// and what really went to the loudspeaker, whose clock is the recording's.

import { FRAME, RATE } from "./pcm.js";

const CUSHION = 3; // frames of the microphone to gather first: its frames come in bursts
const MOST = 10; // more of them than that wait only where the two clocks differ
const LONGEST = 3600; // seconds that are kept
const SILENCE = new Int16Array(FRAME);

export class Recording {
  #seconds = []; // a Blob each: the browser may put those on the disk
  #frames = [];
  #microphone = [];
  #gathering = true;

  get empty() {
    return !this.#seconds.length && !this.#frames.length;
  }

  microphone(pcm) {
    this.#microphone.push(pcm);
    if (this.#microphone.length > MOST) this.#microphone.shift();
    if (this.#microphone.length >= CUSHION) this.#gathering = false;
  }

  speaker(pcm) {
    const caller = (!this.#gathering && this.#microphone.shift()) || SILENCE;
    this.#gathering ||= !this.#microphone.length;
    if (this.#seconds.length >= LONGEST) return;
    const both = new Int16Array(2 * FRAME);
    for (let i = 0; i < FRAME; i++) {
      both[2 * i] = caller[i];
      both[2 * i + 1] = pcm[i];
    }
    this.#frames.push(both);
    if (this.#frames.length * FRAME === RATE) this.#seconds.push(new Blob(this.#frames.splice(0)));
  }

  wav() {
    const sound = new Blob([...this.#seconds, ...this.#frames]);
    return new Blob([header(sound.size), sound], { type: "audio/wav" });
  }
}

// RIFF: 16-bit PCM, two channels.
function header(bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  const channels = 2;
  text(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, RATE * channels * 2, true);
  view.setUint16(32, channels * 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view.buffer;
}
