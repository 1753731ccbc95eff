// What is written, and the picture that goes with it.

import { PictureDialog } from "./camera.js";
import { pictureIn, prepare } from "./picture.js";
import { t } from "./texts.js";

export class Compose {
  #form;
  #text;
  #preview;
  #picture = null; // {url, canvas}
  #onProblem;

  // onMessage(content, text, canvas): a message as conversation.item.create has it, its words
  // and its picture, null where it has none.
  constructor(form, dialog, { onMessage, onProblem }) {
    this.#form = form;
    this.#text = form.querySelector("input[type=text]");
    this.#preview = form.querySelector(".preview");
    this.#onProblem = onProblem;
    const pictures = new PictureDialog(dialog, (source) => this.#show(source));
    form.querySelector("[name=picture]").onclick = () => pictures.open();
    form.querySelector("[name=drop]").onclick = () => this.#forget();
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit(onMessage);
    };
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
  }

  #take(event, transfer) {
    if (!transfer?.files.length) return;
    event.preventDefault(); // else the browser would go to the file
    const file = pictureIn(transfer);
    if (file) this.#show(file);
  }

  async #show(source) {
    try {
      this.#picture = await prepare(source);
    } catch {
      return this.#onProblem(t("picture.none"));
    }
    const { canvas } = this.#picture;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", t("picture.shown"));
    this.#preview.querySelector("canvas")?.remove();
    this.#preview.prepend(canvas);
    this.#preview.hidden = false;
    this.#text.focus();
  }

  #forget() {
    this.#picture = null;
    this.#preview.querySelector("canvas")?.remove();
    this.#preview.hidden = true;
    this.#text.focus();
  }

  #submit(onMessage) {
    const text = this.#text.value.trim();
    const picture = this.#picture;
    if (!text && !picture) return this.#text.focus();
    const content = [];
    if (picture) content.push({ type: "input_image", image_url: picture.url });
    if (text) content.push({ type: "input_text", text });
    this.#form.reset();
    this.#forget();
    onMessage(content, text, picture?.canvas ?? null);
  }
}
