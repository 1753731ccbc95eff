// What is left of a call once it is over: transcript, recording, latencies. All of it is in the
// page only, and gone with the next call.

import { heardOf } from "./transcript.js";
import { t } from "./texts.js";

const SHOWN = 32; // characters of an answer that tell which one it is
const PARTS = ["endpointing", "asr", "first_token", "tts", "delivery", "total", "page"];

export class After {
  #panel;
  #status;
  #urls = [];
  #transcript = null;

  constructor(panel) {
    this.#panel = panel;
    this.#status = panel.querySelector("[role=status]");
    this.#find("copy").onclick = () => this.#copy();
  }

  show(transcript, recording, began) {
    this.#transcript = transcript;
    const name = `conch-${began.toISOString().slice(0, 19).replaceAll(":", "-")}`;
    this.#link("text", new Blob([this.#text(), "\n"], { type: "text/plain" }), `${name}.txt`);
    this.#panel.querySelector(".recording").hidden = !recording || recording.empty;
    if (recording && !recording.empty) {
      this.#panel.querySelector("audio").src = this.#link("wav", recording.wav(), `${name}.wav`);
    }
    this.#latencies(transcript.lines.filter(({ timing }) => timing));
    this.#status.textContent = "";
    this.#panel.hidden = false;
  }

  hide() {
    this.#panel.hidden = true;
    this.#panel.querySelector("audio").removeAttribute("src");
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    this.#transcript = null;
  }

  #find(name) {
    return this.#panel.querySelector(`[data-name=${name}]`);
  }

  #text() {
    return this.#transcript.toText({ you: t("you"), me: t("me") });
  }

  #link(name, blob, file) {
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    Object.assign(this.#find(name), { href: url, download: file });
    return url;
  }

  async #copy() {
    const done = await navigator.clipboard?.writeText(this.#text()).then(() => true, () => false);
    this.#status.textContent = t(done ? "copied" : "copy.failed");
  }

  #latencies(lines) {
    this.#panel.querySelector("details").hidden = !lines.length;
    const rows = lines.map((line) => {
      const row = document.createElement("tr");
      const words = document.createElement("th");
      words.scope = "row";
      words.textContent = shortened(heardOf(line).trim());
      row.append(words, ...PARTS.map((part) => cell(line.timing[part])));
      return row;
    });
    this.#panel.querySelector("tbody").replaceChildren(...rows);
  }
}

const shortened = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text || "–");

function cell(value) {
  const made = document.createElement("td");
  made.textContent = value ?? "–";
  return made;
}
