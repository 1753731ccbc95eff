// The microphone of one call, as frames of 20 ms at 24 kHz.

import { RATE } from "./pcm.js";

const WANTED = {
  audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
};

// Answers {mute(muted), close()}. Throws what getUserMedia throws.
export async function openMicrophone(onFrame) {
  if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
  const stream = await navigator.mediaDevices.getUserMedia(WANTED);
  const tracks = stream.getTracks();
  let context;
  try {
    context = await listen(stream, onFrame);
  } catch (error) {
    tracks.forEach((track) => track.stop());
    throw error;
  }
  return {
    mute: (muted) => tracks.forEach((track) => (track.enabled = !muted)),
    close: () => {
      tracks.forEach((track) => track.stop());
      context.close();
    },
  };
}

async function listen(stream, onFrame) {
  let context = new AudioContext({ sampleRate: RATE });
  let source;
  try {
    source = context.createMediaStreamSource(stream);
  } catch {
    // Firefox takes a microphone only at the device's own rate; the worklet then resamples.
    context.close();
    context = new AudioContext();
    source = context.createMediaStreamSource(stream);
  }
  await context.resume();
  await context.audioWorklet.addModule("capture-worklet.js");
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onFrame(new Int16Array(data));
  source.connect(node);
  return context;
}
