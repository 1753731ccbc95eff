// One call: the link to the server, microphone and loudspeaker, and who has the floor.
// What there is to see goes to a view, which has these methods:
//   floor(state)                  connecting listening you thinking me held lost
//   words(side, item, words, ms)  more words; those of a reply begin `ms` into its audio
//   finished(side, item, text)    the item is complete; `text`, where given, is its final wording
//   heard(item, text)             of an interrupted reply only this was heard
//   played(item, ms)              so much of a reply has been heard
//   level("you" or "me", 0 to 1)  how loud it is now
//   turn(item, timing)            a reply is done; milliseconds by what took them
//   problem(message)              something failed, the call goes on
//   ended(reason)                 the call is over, and not because end() was called: what the
//                                 server said, or "lost", or "refused" where it never began

import { Link } from "./link.js";
import { openMicrophone } from "./microphone.js";
import { level, toBase64 } from "./pcm.js";
import { Recording } from "./recording.js";
import { Speaker } from "./speaker.js";

const ACK_MS = 400;
const LONGEST_WAY = 150; // ms; a slower answer was slow for other reasons than its way

export class Call {
  state = "connecting";
  began = new Date();
  recording = null;
  #view;
  #link;
  #speaker;
  #microphone = null;
  #ended = false;
  #created = false;
  #before = ""; // the state in which the connection was lost
  #asked = 0; // when the first message went out
  #way = 0; // ms that a message takes to the server, about
  #acked = 0;
  #silenced = new Set(); // replies that were cut off here
  #playing = false;
  #arrived = new Map(); // reply -> {samples of it that came, at: the first, late: ms to its sound}

  // Make it in the click that begins the call. `session` is its first session.update.
  constructor(view, { key = "", session = {}, record = false } = {}) {
    this.#view = view;
    if (record) this.recording = new Recording();
    this.#speaker = new Speaker({
      onFrame: (pcm, item, ms) => this.#onSpeaker(pcm, item, ms),
      onPlaying: (playing, held) => this.#onPlaying(playing, held),
      onFlushed: (item, ms) => this.#onFlushed(item, ms),
    });
    this.#link = new Link(key, {
      onEvent: (event) => this.#on(event),
      onLost: () => this.#onLost(),
      onBack: () => this.#onBack(),
      onEnd: (reason) => this.#onEnd(reason),
    });
    this.configure(session);
  }

  // Throws what the microphone throws.
  async start({ microphone = true } = {}) {
    await this.#speaker.open();
    if (microphone) await this.unmute();
    if (!this.#ended) this.#link.connect();
  }

  // Throws what the microphone throws.
  async unmute() {
    const microphone = this.#microphone ?? (await openMicrophone((pcm) => this.#onMicrophone(pcm)));
    if (this.#ended) return microphone.close();
    this.#microphone = microphone;
    microphone.mute(false);
  }

  mute() {
    this.#microphone?.mute(true);
  }

  // Say something in writing: parts of a message, as in conversation.item.create.
  type(content) {
    this.#hush();
    this.#link.send({ type: "output_audio_buffer.clear" });
    const id = `item_typed_${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
    const item = { id, type: "message", role: "user", content };
    this.#link.send({ type: "conversation.item.create", item });
    this.#link.send({ type: "response.create" });
    return id;
  }

  configure(session) {
    this.#link.send({ type: "session.update", session });
  }

  end() {
    this.#ended = true;
    this.#link.close();
    this.#microphone?.close();
    this.#speaker.close();
  }

  // --- what the server says -------------------------------------------------------------------

  #on(event) {
    switch (event.type) {
      case "session.created":
        return this.#begin();
      case "session.updated":
        return this.#onUpdated();
      case "input_audio_buffer.speech_started":
        this.#hush();
        return this.#enter("you");
      case "input_audio_buffer.speech_stopped":
        return this.#enter("listening");
      case "input_audio_buffer.committed":
        return this.#enter("thinking");
      case "conversation.item.input_audio_transcription.delta":
        return this.#view.words("you", event.item_id, event.delta, 0);
      case "conversation.item.input_audio_transcription.completed":
        return this.#view.finished("you", event.item_id, event.transcript);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.#view.words("me", event.item_id, event.delta, this.#sent(event.item_id));
      case "response.output_audio.delta":
        return this.#hear(event.item_id, event.delta);
      case "response.output_audio.done":
        return this.#speaker.end();
      case "response.done":
        return this.#onDone(event);
      case "response.created":
        if (!this.#playing) this.#enter("thinking");
        return;
      case "conversation.item.truncated":
        return this.#askWhatWasHeard(event.item_id);
      case "conversation.item.retrieved":
        return this.#view.heard(event.item.id, textOf(event.item));
      case "error":
        return this.#view.problem(event.error.message);
    }
  }

  #begin() {
    this.#created = true;
    this.#asked = performance.now();
    this.#enter("listening");
  }

  #onUpdated() {
    if (this.#asked) this.#way = Math.min(LONGEST_WAY, (performance.now() - this.#asked) / 2);
    this.#asked = 0;
  }

  #hear(item, delta) {
    if (this.#silenced.has(item)) return;
    const arrived = this.#arrived.get(item) ?? { samples: 0, at: performance.now(), late: null };
    arrived.samples += (delta.length * 3) / 8; // base64, 16 bits a sample
    this.#arrived.set(item, arrived);
    this.#speaker.play(item, delta);
  }

  // Milliseconds of that reply's audio that have come.
  #sent(item) {
    return (this.#arrived.get(item)?.samples ?? 0) / 24;
  }

  #onDone({ response, conch }) {
    for (const { id, type } of response.output) {
      if (type !== "message") continue;
      if (response.status === "completed") this.#view.finished("me", id);
      else this.#askWhatWasHeard(id);
      const late = this.#arrived.get(id)?.late;
      this.#view.turn(id, { ...conch?.timing_ms, ...(late && { page: late }) });
    }
    if (["thinking", "held"].includes(this.state)) this.#enter("listening");
    if (response.status === "failed") {
      this.#view.problem(response.status_details?.error?.message ?? "");
    }
  }

  #askWhatWasHeard(item_id) {
    this.#link.send({ type: "conversation.item.retrieve", item_id });
  }

  #onLost() {
    this.#before = this.state;
    this.#enter("lost");
  }

  #onBack() {
    if (this.#playing) this.#enter("me");
    else this.#enter(this.#before === "me" ? "listening" : this.#before);
  }

  #onEnd(reason) {
    if (this.#ended) return;
    this.end();
    this.#view.ended(this.#created ? reason || "lost" : reason || "refused");
  }

  // --- microphone and loudspeaker -------------------------------------------------------------

  #onMicrophone(pcm) {
    if (this.#ended) return;
    this.recording?.microphone(pcm);
    this.#view.level("you", level(pcm));
    this.#link.send({ type: "input_audio_buffer.append", audio: toBase64(pcm) });
  }

  #onSpeaker(pcm, item, ms) {
    this.recording?.speaker(pcm);
    this.#view.level("me", level(pcm));
    if (!item) return;
    this.#view.played(item, ms - this.#speaker.latency);
    if (performance.now() - this.#acked > ACK_MS) this.#acknowledge(item, ms);
  }

  // The server paces what it sends by this, so it is what will have been played when it arrives.
  #acknowledge(item_id, ms) {
    if (!this.#link.open || this.state !== "me") return;
    this.#acked = performance.now();
    const played_ms = Math.round(Math.min(ms + this.#way, this.#sent(item_id)));
    this.#link.send({ type: "conch.playback", item_id, content_index: 0, played_ms });
  }

  #onPlaying(playing, held) {
    this.#playing = playing;
    if (playing) this.#onSound();
    else if (this.state === "me") this.#enter(held ? "held" : "listening");
  }

  #onSound() {
    this.#enter("me");
    const latest = [...this.#arrived.values()].at(-1);
    if (latest) latest.late ??= Math.round(performance.now() - latest.at + this.#speaker.latency);
  }

  // Cut off what plays; what may still come of it is not played either.
  #hush() {
    for (const item of this.#arrived.keys()) this.#silenced.add(item);
    this.#speaker.flush();
  }

  #onFlushed(item_id, audio_end_ms) {
    const where = { item_id, content_index: 0, audio_end_ms };
    this.#link.send({ type: "conversation.item.truncate", ...where });
  }

  #enter(state) {
    if (this.#ended || state === this.state) return;
    this.state = state;
    this.#view.floor(state);
  }
}

const textOf = (item) =>
  (item.content ?? []).map((part) => part.transcript ?? part.text ?? "").join("");
