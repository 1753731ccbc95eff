// Samples: base64 PCM16 as it goes over the wire, and how loud it is. Pure.

export const RATE = 24000; // Hz, on the wire, in both worklets and in the recording
export const FRAME = RATE / 50; // samples in the 20 ms that both worklets hand over at a time

const LOUD = 5000; // root mean square, of 32767, of a voice near the microphone

export function toBase64(pcm) {
  return btoa(String.fromCharCode(...new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength)));
}

export function fromBase64(text) {
  return new Int16Array(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
}

// Loudness from 0 to 1, as the eye expects it: its square root moves for quiet voices too.
export function level(pcm) {
  let sum = 0;
  for (const sample of pcm) sum += sample * sample;
  return Math.sqrt(Math.min(1, Math.sqrt(sum / pcm.length) / LOUD));
}
