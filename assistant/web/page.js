// The call page: puts the parts together. A call is call.js, what was said transcript.js.

import { After } from "./after.js";
import { stayAwake } from "./awake.js";
import { Call } from "./call.js";
import { Captions } from "./captions.js";
import { Compose } from "./compose.js";
import { Floor } from "./floor.js";
import { plainly, ready } from "./server.js";
import { Settings } from "./settings.js";
import { t } from "./texts.js";
import { Transcript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const settings = new Settings($("settings-form"), () => {
  call?.configure(settings.session);
  label();
  learnVoices();
});
const captions = new Captions($("captions"), $("talk"), $("announcer"));
const floor = new Floor($("floor"), $("state"));
const after = new After($("after"));
let transcript = new Transcript();
let call = null;
let muted = false;

new Compose($("compose"), $("picture"), { onMessage: write, onProblem: complain });

const view = {
  floor(state) {
    floor.show(state);
    $("lost").hidden = state !== "lost";
    if (["connecting", "idle"].includes(state)) captions.tell(t(`floor.${state}`));
  },
  words: (side, item, words, ms) => captions.show(transcript.add(side, item, words, ms)),
  finished: (side, item, text) => settle(item, transcript.finish(side, item, text)),
  heard: (item, text) => settle(item, transcript.hear(item, text) ?? transcript.get(item)),
  played(item, ms) {
    const line = transcript.play(item, ms);
    if (line) captions.show(line);
  },
  level: (side, loud) => floor.level(side, loud),
  turn(item, timing) {
    const line = transcript.get(item);
    if (line) line.timing = timing;
  },
  problem: (message) => complain(message || t("error.failed")),
  ended: (reason) => hangUp(["lost", "refused"].includes(reason) ? t(`error.${reason}`) : reason),
};

function settle(item, line) {
  if (!line) return captions.remove(item);
  captions.show(line);
  captions.announce(line);
}

// --- calling and hanging up -----------------------------------------------------------------

async function dial({ microphone = true } = {}) {
  const mine = new Call(view, { key: settings.key, session: settings.session, record: true });
  begin(mine, !microphone);
  try {
    await ready(load);
    await settings.learnVoices();
    load(1);
    if (call === mine) await mine.start({ microphone });
  } catch (error) {
    if (call === mine) hangUp(plainly(error));
  }
}

function begin(mine, silent) {
  call = mine;
  muted = silent;
  transcript = new Transcript();
  captions.clear();
  after.hide();
  complain("");
  label();
  view.floor("connecting");
  stayAwake(true);
}

function hangUp(message = "") {
  const over = call;
  call = null;
  over?.end();
  load(1);
  complain(message);
  label();
  view.floor("idle");
  stayAwake(false);
  if (over && transcript.lines.length) after.show(transcript, over.recording, over.began);
  captions.end();
}

async function mute(wanted) {
  muted = wanted;
  label();
  try {
    if (muted) call.mute();
    else await call.unmute();
  } catch (error) {
    muted = true;
    label();
    complain(plainly(error));
  }
}

function write(content, text, canvas) {
  if (!call) dial({ microphone: false });
  const item = call.type(content);
  const line = transcript.add("you", item, text || t("picture.shown"), 0);
  transcript.finish("you", item);
  captions.show(line);
  if (canvas) captions.picture(line, canvas);
}

// --- what is shown --------------------------------------------------------------------------

function complain(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

function load(done) {
  $("loading").hidden = done === 1;
  if (done === null) $("progress").removeAttribute("value");
  else $("progress").value = done;
}

// What is wrong with it is said when it matters: when calling.
function learnVoices() {
  settings.learnVoices().catch(() => {});
}

function label() {
  document.body.dataset.call = call ? "on" : "off";
  name($("call"), call ? "hang.up" : transcript.lines.length ? "call.again" : "call");
  name($("mute"), muted ? "unmute" : "mute");
  $("mute").disabled = !call;
  $("mute").dataset.on = String(Boolean(call) && muted);
}

function name(button, text) {
  const label = button.querySelector("span");
  label.dataset.text = text;
  label.textContent = t(text);
}

$("call").onclick = () => (call ? hangUp() : dial());
$("mute").onclick = () => mute(!muted);
$("settings-open").onclick = () => $("settings").showModal();
addEventListener("pagehide", () => hangUp());
floor.show("idle");
label();
learnVoices();
