// What the user has chosen, kept in the browser; the key only until the tab is closed.

import { sessionOf, voices } from "./server.js";
import { language, speak } from "./texts.js";

const KEPT = ["page", "speech", "voice", "size"];

export class Settings {
  #form;
  #onChange;

  // onChange(): something about the session is another now.
  constructor(form, onChange) {
    this.#form = form;
    this.#onChange = onChange;
    for (const name of KEPT) this.#field(name).value = localStorage.getItem(name) ?? "";
    this.#field("key").value = sessionStorage.getItem("key") ?? "";
    form.onchange = () => this.#changed();
    this.#apply();
  }

  get key() {
    return this.#field("key").value.trim();
  }

  get session() {
    return sessionOf({ language: this.#field("speech").value, voice: this.#field("voice").value });
  }

  // Ask the server which voices it has. Throws an Error where the key is wrong.
  async learnVoices() {
    const wanted = localStorage.getItem("voice") ?? "";
    const known = await voices(this.key);
    const options = known.map(({ id, language: tongue, gender }) => {
      return new Option(`${id} · ${tongueName(tongue)} · ${gender === "male" ? "♂" : "♀"}`, id);
    });
    const field = this.#field("voice");
    field.replaceChildren(field.options[0], ...options);
    field.value = known.some(({ id }) => id === wanted) ? wanted : "";
  }

  #field(name) {
    return this.#form.elements[name];
  }

  #changed() {
    for (const name of KEPT) localStorage.setItem(name, this.#field(name).value);
    sessionStorage.setItem("key", this.key);
    this.#apply();
    this.#onChange();
  }

  #apply() {
    speak(this.#field("page").value);
    document.documentElement.dataset.size = this.#field("size").value || "1";
  }
}

const tongueName = (tag) => new Intl.DisplayNames([language()], { type: "language" }).of(tag);
