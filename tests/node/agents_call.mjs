// @openai/agents-realtime over its websocket transport; ../clients/caller.py says what goes in
// and comes out.
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

const RATE = 24_000;
const STEP = 960; // bytes of a microphone's frame: 20 ms
const OVER = 2 * RATE; // bytes of a reply after which the second line is spoken: a second
const PATIENCE = 60_000;

const given = JSON.parse(await text(process.stdin));
const call = { played: [], interruptions: 0, asked: [], history: [], errors: [] };

// --- the loudspeaker: plays in real time, and says nothing about it to the client

let playing = [];
let finish;
const finished = new Promise((resolve) => (finish = resolve));

const size = () => playing.reduce((sum, part) => sum + part.length, 0);

function stopped() {
  if (size()) call.played.push(Buffer.concat(playing).toString("base64"));
  playing = [];
}

// --- the client

const weather = tool({
  name: "weather",
  description: "The weather in a city.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    call.asked.push(city);
    return "rain";
  },
});
const agent = new RealtimeAgent({ name: "conch", instructions: "Be kind.", tools: [weather] });
const session = new RealtimeSession(agent, {
  transport: new OpenAIRealtimeWebSocket({ url: given.url }),
  tracingDisabled: true,
});
session.on("audio", ({ data }) => playing.push(Buffer.from(data)));
session.on("audio_interrupted", () => {
  call.interruptions += 1;
  stopped();
});
session.on("audio_stopped", () => {
  if (!size()) return; // it was interrupted before
  stopped();
  finish();
});
session.on("error", ({ error }) => call.errors.push(JSON.stringify(error)));

// --- the call

let over = false;
async function send(pcm) {
  for (let at = 0; at < pcm.length && !over; at += STEP) {
    session.sendAudio(new Uint8Array(pcm.subarray(at, at + STEP)).buffer);
    await sleep(20);
  }
}

async function speak(lines) {
  for (const [at, line] of lines.entries()) {
    while (at && !over && size() < OVER) await send(Buffer.alloc(STEP));
    await send(Buffer.from(line, "base64"));
  }
  while (!over) await send(Buffer.alloc(STEP));
}

await session.connect({ apiKey: "x" });
const speaking = speak(given.lines);
const patience = setTimeout(() => {
  call.errors.push("no reply was played to its end");
  finish();
}, PATIENCE);
await finished;
await sleep(300);
over = true;
await speaking;
clearTimeout(patience);
for (const item of session.history) {
  if (item.type === "message") {
    const words = item.content.map((part) => part.transcript ?? part.text ?? "").join("");
    call.history.push([item.role, words]);
  }
}
session.close();
console.log("\n" + JSON.stringify(call));
