// The websocket of one call. It survives a dropped connection, where the server gave a token:
// events have numbers, and both sides send again what the other one missed.

import { Backlog } from "./backlog.js";

const RETRY_MS = [250, 500, 1000, 2000, 4000]; // the last one repeats
const ATTEMPT_MS = 5000;
const STUCK = 200_000; // bytes that wait in the browser, some three seconds of audio
const WAITING = 64; // events kept for when the connection is back
const DROPPED = new Set([1005, 1006, 1012, 1014, 1015]); // close codes that no server means

export class Link {
  open = false; // what is sent now goes out
  #key;
  #handlers;
  #socket = null;
  #ended = false;
  #backlog = new Backlog();
  #waiting = [];
  #seq = 0;
  #resume = null; // {token, grace_s}
  #lostAt = 0; // 0: the connection stands
  #tries = 0;
  #refusals = 0;
  #timer = 0;

  // onEvent(event); onLost(); onBack(): it was lost and stands again; onEnd(reason): for good.
  constructor(key, handlers) {
    this.#key = key;
    this.#handlers = handlers;
  }

  connect(query = {}) {
    const url = new URL("v1/realtime", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ ext: "conch.1", ...query });
    const protocols = ["realtime", ...(this.#key ? [`openai-insecure-api-key.${this.#key}`] : [])];
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#on(JSON.parse(data));
    socket.onclose = (event) => this.#closed(event);
  }

  send(event) {
    if (this.open) this.#socket.send(JSON.stringify(event));
    else if (this.#waiting.length < WAITING) this.#waiting.push(event);
  }

  sendAudio(base64) {
    this.#backlog.add(base64);
    if (this.open && this.#socket.bufferedAmount > STUCK) this.#lose();
    if (this.open) this.#append(base64);
  }

  close() {
    this.#ended = true;
    this.open = false;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  #append(audio) {
    this.#socket.send(JSON.stringify({ type: "input_audio_buffer.append", audio }));
  }

  #on(event) {
    switch (event.type) {
      case "session.created":
        this.#resume = event.conch?.resume ?? event.session.conch?.resume ?? null;
        this.#stands(0);
        break;
      case "conch.session.resumed":
        this.#resume = event.resume;
        this.#stands(event.input_audio_ms);
        return this.#handlers.onBack();
    }
    if (event.seq <= this.#seq) return; // it came before the connection dropped
    this.#seq = event.seq ?? this.#seq;
    this.#handlers.onEvent(event);
  }

  // The server has the first `ms` of the microphone.
  #stands(ms) {
    clearTimeout(this.#timer);
    this.open = true;
    this.#lostAt = this.#tries = this.#refusals = 0;
    for (const audio of this.#backlog.after(ms)) this.#append(audio);
    for (const event of this.#waiting.splice(0)) this.send(event);
  }

  #closed({ code, reason }) {
    if (this.#ended) return;
    if (!this.#resume || !DROPPED.has(code)) return this.#end(reason);
    if (this.#lostAt) this.#failed();
    else this.#lose();
  }

  #lose() {
    this.#abandon();
    if (!this.#resume) return this.#end("");
    if (!this.#lostAt) {
      this.#lostAt = performance.now();
      this.#handlers.onLost();
    }
    this.#retry();
  }

  #abandon() {
    this.open = false;
    clearTimeout(this.#timer);
    this.#socket.onclose = this.#socket.onmessage = null;
    this.#socket.close();
  }

  #retry() {
    const waited = performance.now() - this.#lostAt;
    if (waited > 1000 * this.#resume.grace_s) return this.#end("");
    const delay = RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)];
    this.#timer = setTimeout(() => {
      this.#timer = setTimeout(() => this.#lose(), ATTEMPT_MS);
      this.connect({ resume: this.#resume.token, after: this.#seq });
    }, delay);
  }

  // A browser does not say why a connection was refused: a server that answers questions and
  // still, twice, does not take the call has given it up.
  async #failed() {
    clearTimeout(this.#timer);
    const answers = await fetch("healthz", { cache: "no-store" }).then(() => true, () => false);
    this.#refusals = answers ? this.#refusals + 1 : 0;
    if (this.#ended) return;
    if (this.#refusals > 1) this.#end("");
    else this.#retry();
  }

  #end(reason) {
    this.close();
    this.#handlers.onEnd(reason);
  }
}
