// The page's own words, in English and Chinese. Elements name theirs: data-text is the content,
// data-label the accessible name, data-hint the placeholder.

import { EN } from "./texts-en.js";
import { ZH } from "./texts-zh.js";

const TEXTS = { en: EN, zh: ZH };
let texts = EN;

// The text of that name, {0}, {1} ... in it filled in.
export function t(name, ...values) {
  return (texts[name] ?? name).replace(/\{(\d)\}/g, (_, at) => values[at]);
}

export function language() {
  return texts === ZH ? "zh" : "en";
}

// The language to begin with: the one asked for, else the browser's.
export function speak(wanted) {
  const name = wanted || navigator.language.slice(0, 2);
  texts = TEXTS[name] ?? EN;
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text);
  for (const one of document.querySelectorAll("[data-label]")) {
    one.setAttribute("aria-label", t(one.dataset.label));
    one.title = t(one.dataset.label);
  }
  for (const one of document.querySelectorAll("[data-hint]")) one.placeholder = t(one.dataset.hint);
}
