// The websocket of one call. It survives a dropped connection where the server gave a token for
// that: what both sides send is numbered, and each sends again what the other one missed.

import { Backlog } from "./backlog.js";

const RETRY_MS = [0, 250, 500, 1000, 2000, 4000]; // the last one repeats
const ATTEMPT_MS = 5000;
const STUCK_MS = 4000; // nothing leaves the browser for so long: a network that is gone says nothing
const DOUBTED = 4001; // close code of ours for a connection that may be dead: no hang-up
const DROPPED = new Set([1005, 1006, 1012, 1014, 1015]); // close codes that no server means

export class Link {
  open = false; // what is sent now goes out
  #key;
  #handlers;
  #socket = null;
  #ended = false;
  #backlog = new Backlog();
  #seq = 0;
  #resume = null; // {token, grace_s}
  #lostAt = 0; // 0: the connection stands
  #given = 0; // characters given to this connection
  #gone = 0; // those of them that left the browser
  #movedAt = 0; // when that last grew
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

  // Now, or when the connection stands.
  send(event) {
    const message = JSON.stringify(event);
    this.#backlog.add(message);
    if (this.open) this.#transmit(message);
    const stuck = performance.now() - this.#movedAt > STUCK_MS;
    if (this.open && stuck && this.#resume) this.#lose();
  }

  close() {
    this.#ended = true;
    this.open = false;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  #transmit(message) {
    const gone = this.#given - this.#socket.bufferedAmount;
    if (gone > this.#gone || gone === this.#given) this.#movedAt = performance.now();
    this.#gone = gone;
    this.#given += message.length;
    this.#socket.send(message);
  }

  #on(event) {
    switch (event.type) {
      case "session.created":
        this.#resume = event.session.conch?.resume ?? null;
        this.#stands(0);
        break;
      case "conch.session.resumed":
        this.#resume = event.resume;
        this.#stands(event.input_events);
        return this.#handlers.onBack();
    }
    if (event.seq <= this.#seq) return; // it came before the connection dropped
    this.#seq = event.seq ?? this.#seq;
    this.#handlers.onEvent(event);
  }

  // The server has the first `count` messages of the call.
  #stands(count) {
    clearTimeout(this.#timer);
    this.open = true;
    this.#lostAt = this.#tries = this.#refusals = this.#given = this.#gone = 0;
    this.#movedAt = performance.now();
    for (const message of this.#backlog.after(count)) this.#transmit(message);
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
    this.#socket.close(DOUBTED);
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
