// The page: one call over /v1/realtime. Audio runs in the two worklets, captions in captions.js.

import { openAudio } from "./audio.js";
import { Captions } from "./captions.js";

const $ = (id) => document.getElementById(id);
const captions = new Captions($("captions"));
let call = null;

const STATES = {
  idle: "Ready to call",
  connecting: "Calling",
  listening: "Listening",
  you: "You are speaking",
  thinking: "Thinking",
  me: "Conch is speaking",
};

function show(state) {
  $("state").dataset.state = state;
  $("state").textContent = STATES[state];
}

function complain(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

class Call {
  #audio = null;
  #socket = null;
  #playing = false;
  #ended = false;
  state = "connecting";

  async start() {
    this.enter("connecting");
    this.#audio = await openAudio({
      onFrame: (base64) => this.#send({ type: "input_audio_buffer.append", audio: base64 }),
      onPlaying: (playing) => this.#onPlaying(playing),
      onFlushed: (item, ms) => this.#onFlushed(item, ms),
    });
    if (this.#ended) return this.#audio.close();
    await this.#connect();
  }

  #connect() {
    const url = new URL("v1/realtime?ext=conch.1", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const key = $("key").value.trim();
    const protocols = ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])];
    this.#socket = new WebSocket(url, protocols);
    this.#socket.onmessage = ({ data }) => this.#on(JSON.parse(data));
    return new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onclose = ({ code, reason }) => {
        if (!this.#ended) hangUp(reason || `The call ended (code ${code}).`);
        reject(new Error(reason || "The server did not take the call."));
      };
    });
  }

  enter(state) {
    this.state = state;
    if (call === this) show(state);
  }

  mute(muted) {
    this.#audio?.mute(muted);
  }

  end() {
    this.#ended = true;
    this.#socket?.close(1000);
    this.#audio?.close();
  }

  #send(event) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  #on(event) {
    switch (event.type) {
      case "session.created":
        return this.enter("listening");
      case "input_audio_buffer.speech_started":
        this.#audio.flush();
        return this.enter("you");
      case "input_audio_buffer.speech_stopped":
      case "input_audio_buffer.committed":
        return this.enter("thinking");
      case "conversation.item.input_audio_transcription.delta":
        return captions.add("you", event.item_id, event.delta);
      case "conversation.item.input_audio_transcription.completed":
        return captions.finish("you", event.item_id, event.transcript);
      case "response.output_audio.delta":
        return this.#audio.play(event.item_id, event.delta);
      case "response.output_audio.done":
        return this.#audio.endOf(event.item_id);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return captions.add("me", event.item_id, event.delta);
      case "response.done":
        return this.#onResponseDone(event.response);
      case "conversation.item.truncated":
        return this.#askWhatWasHeard(event.item_id);
      case "conversation.item.retrieved":
        return captions.heard(event.item.id, textOf(event.item));
      case "error":
        return complain(event.error.message);
    }
  }

  #onPlaying(playing) {
    this.#playing = playing;
    if (playing) this.enter("me");
    else if (this.state === "me") this.enter("listening");
  }

  #onFlushed(item_id, audio_end_ms) {
    this.#send({ type: "conversation.item.truncate", item_id, content_index: 0, audio_end_ms });
  }

  #onResponseDone(response) {
    for (const item of response.output) {
      if (response.status === "completed") captions.finish("me", item.id);
      else if (item.type === "message") this.#askWhatWasHeard(item.id);
    }
    if (!this.#playing && this.state === "thinking") this.enter("listening");
    if (response.status === "failed") complain("The assistant could not answer that.");
  }

  #askWhatWasHeard(item_id) {
    this.#send({ type: "conversation.item.retrieve", item_id });
  }
}

const textOf = (item) =>
  (item.content ?? []).map((part) => part.transcript ?? part.text ?? "").join("");

// --- calling and hanging up -----------------------------------------------------------------

async function ready() {
  for (;;) {
    const answer = await fetch("healthz", { cache: "no-store" });
    $("loading").hidden = answer.ok;
    if (answer.ok) return;
    const { status, reason, progress } = await answer.json().catch(() => ({}));
    if (status === "failed") throw new Error(`The server could not load its models: ${reason}`);
    if (typeof progress === "number") $("progress").value = progress;
    else $("progress").removeAttribute("value");
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function dial() {
  call = new Call();
  const mine = call;
  complain("");
  buttons();
  show("connecting");
  try {
    await ready();
    if (call === mine) await mine.start();
  } catch (error) {
    if (call === mine) hangUp(inPlainWords(error));
  }
}

function hangUp(message = "") {
  call?.end();
  call = null;
  $("mute").setAttribute("aria-pressed", "false");
  $("loading").hidden = true;
  complain(message);
  buttons();
  show("idle");
}

function buttons() {
  $("call").textContent = call ? "Hang up" : "Call";
  $("call").dataset.on = String(Boolean(call));
  $("mute").disabled = !call;
}

function inPlainWords(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone was refused. Allow it beside the address bar, then call again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, then call again.";
    case "NotReadableError":
      return "Another program is using the microphone. Close it, then call again.";
    case "TypeError":
      return "The server does not answer. Is it still running?";
    default:
      return error.message;
  }
}

$("call").onclick = () => (call ? hangUp() : dial());
$("mute").onclick = () => {
  const muted = $("mute").getAttribute("aria-pressed") !== "true";
  $("mute").setAttribute("aria-pressed", String(muted));
  call?.mute(muted);
};
$("settings").onsubmit = (event) => event.preventDefault();
$("key").value = sessionStorage.getItem("key") ?? "";
$("key").onchange = () => sessionStorage.setItem("key", $("key").value);
addEventListener("pagehide", () => hangUp());
