// What the page asks the server outside a call.

import { t } from "./texts.js";

const ASK_MS = 500;

// Return once the server takes calls; `onProgress` is told 0 to 1, or null where that is not
// known. Throws an Error in plain words, and what fetch throws.
export async function ready(onProgress) {
  for (;;) {
    const answer = await fetch("healthz", { cache: "no-store" });
    if (answer.ok) return;
    const { status, reason, progress } = await answer.json().catch(() => ({}));
    if (status === "failed") throw new Error(t("error.models", reason));
    onProgress(progress ?? null);
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

// The voices of this server: [{id, language, gender}]. Throws an Error where the key is wrong.
export async function voices(key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch("v1/audio/voices", { headers });
  if (answer.status === 401) throw new Error(t("error.key"));
  return answer.ok ? (await answer.json()).data : [];
}

// The settings of a session, as session.update takes them; empty ones are the server's own.
export function sessionOf({ language, voice }) {
  return {
    type: "realtime",
    audio: {
      input: { transcription: { language: language || null } },
      output: { voice: voice || null },
    },
  };
}

// An error of a call's beginning, in plain words.
export function plainly(error) {
  const known = `error.${error.name}`;
  return t(known) === known ? error.message : t(known);
}
