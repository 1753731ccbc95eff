// The page of a touch screen in a hall: one touch begins a call, silence ends it, and nothing of
// one visitor is left for the next. No recording, no storage, a session of its own for each.
//   /kiosk?silence=30&lang=zh&speech=zh&voice=NAME#key=API-KEY

import { stayAwake } from "./awake.js";
import { Call } from "./call.js";
import { Floor } from "./floor.js";
import { Quiet } from "./quiet.js";
import { plainly, ready, sessionOf } from "./server.js";
import { Subtitles } from "./subtitles.js";
import { speak, t } from "./texts.js";

const $ = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);
const key = new URLSearchParams(location.hash.slice(1)).get("key") ?? "";
const SILENCE_MS = 1000 * (Number(options.get("silence")) || 30);
const WARNING_MS = Math.min(10_000, SILENCE_MS / 2);
const MESSAGE_MS = 8000; // how long a visitor is told what went wrong
const BUSY = new Set(["connecting", "you", "thinking", "me", "held", "lost"]);

const floor = new Floor($("floor"), $("state"));
const subtitles = new Subtitles($("caller"), $("reply"), $("announcer"));
let call = null;
let quiet = null;
let ticking = 0;

const view = {
  floor(state) {
    floor.show(state);
    quiet.floor(BUSY.has(state), performance.now());
    $("lost").hidden = state !== "lost";
  },
  words: (side, item, words, ms) => subtitles.add(side, item, words, ms),
  finished: (side, item, text) => subtitles.finish(side, item, text),
  heard: (item, text) => subtitles.hear(item, text),
  played: (item, ms) => subtitles.played(item, ms),
  level: (side, loud) => floor.level(side, loud),
  turn() {}, // latencies interest nobody in a hall
  problem() {}, // nor do faults after which the call goes on
  ended: (reason) => leave(["lost", "refused"].includes(reason) ? t(`error.${reason}`) : reason),
};

async function start() {
  const session = sessionOf({
    language: options.get("speech"),
    voice: options.get("voice"),
  });
  const mine = new Call(view, { key, session });
  call = mine;
  quiet = new Quiet(SILENCE_MS);
  view.floor("connecting");
  subtitles.invite(t("kiosk.speak"));
  show("call");
  $("end").focus();
  ticking = setInterval(tick, 250);
  stayAwake(true);
  try {
    await mine.start();
  } catch (error) {
    if (call === mine) leave(plainly(error));
  }
}

function leave(message = "") {
  call?.end();
  call = null;
  clearInterval(ticking);
  subtitles.clear();
  floor.show("idle");
  stayAwake(false);
  speak(options.get("lang"));
  show("attract", message);
  $("start").focus();
  setTimeout(() => complain(""), MESSAGE_MS);
  attract();
}

// Warn a visitor who says nothing, then end.
function tick() {
  const left = quiet.left(performance.now());
  if (left <= WARNING_MS) warn(Math.ceil(left / 1000));
  else $("ending").hidden = true;
  if (left === 0) leave();
}

function warn(seconds) {
  $("countdown").textContent = t("kiosk.ending", seconds);
  if (!$("ending").hidden) return;
  $("ending").hidden = false;
  $("stay").focus();
}

// Invite only where a call can begin.
async function attract() {
  $("start").disabled = true;
  invite("kiosk.wait");
  for (;;) {
    try {
      await ready(() => {});
      break;
    } catch (error) {
      complain(plainly(error));
      await new Promise((resolve) => setTimeout(resolve, MESSAGE_MS));
    }
  }
  if (call) return;
  invite("kiosk.touch");
  $("start").disabled = false;
}

function invite(text) {
  $("invitation").dataset.text = text;
  $("invitation").textContent = t(text);
}

function show(name, message = "") {
  $("attract").hidden = name !== "attract";
  $("call").hidden = name !== "call";
  $("ending").hidden = true;
  complain(message);
}

function complain(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

speak(options.get("lang"));
$("start").onclick = () => start();
$("end").onclick = () => leave();
$("stay").onclick = () => quiet.floor(false, performance.now());
for (const button of document.querySelectorAll("[data-tongue]")) {
  button.onclick = () => speak(button.dataset.tongue);
}
addEventListener("pagehide", () => call?.end());
addEventListener("contextmenu", (event) => event.preventDefault());
attract();
