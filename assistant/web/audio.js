// Microphone and loudspeaker of one call, as base64 PCM16 at 24 kHz.

const RATE = 24000;
const MICROPHONE = {
  audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
};

// Answers {play, endOf, flush, mute, close}. Throws what getUserMedia throws.
export async function openAudio({ onFrame, onPlaying, onFlushed }) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone only to pages on https or localhost.");
  }
  // Before the question for the microphone: a context made later may have to wait for a click.
  const output = new AudioContext({ sampleRate: RATE });
  let stream, input;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    for (const context of [input, output]) if (context?.state !== "closed") context?.close();
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia(MICROPHONE);
    const speaker = await openSpeaker(output);
    input = await openMicrophone(stream, (pcm) => onFrame(toBase64(pcm)));
    speaker.onmessage = ({ data }) => {
      if ("playing" in data) return onPlaying(data.playing);
      const heard = data.samples - (output.outputLatency || 0) * RATE;
      onFlushed(data.flushed, Math.max(0, Math.round((1000 * heard) / RATE)));
    };
    return {
      play: (item, base64) => speaker.postMessage({ item, pcm: fromBase64(base64) }),
      endOf: (item) => speaker.postMessage({ end: item }),
      flush: () => speaker.postMessage({ flush: true }),
      mute: (muted) => stream.getTracks().forEach((track) => (track.enabled = !muted)),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

async function openSpeaker(context) {
  await context.resume();
  await context.audioWorklet.addModule("playback-worklet.js");
  const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0 });
  node.connect(context.destination);
  return node.port;
}

async function openMicrophone(stream, onPcm) {
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
  node.port.onmessage = ({ data }) => onPcm(data);
  source.connect(node);
  return context;
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}
