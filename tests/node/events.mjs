// Reads server events, a line each, as @openai/agents-realtime does, which passes over those that
// its models do not know without a word; prints those, and how many it could read.
import { createInterface } from "node:readline";
// Not exported; by its path a package's file can be had all the same.
import { parseRealtimeEvent } from "./node_modules/@openai/agents-realtime/dist/openaiRealtimeEvents.mjs";

let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  if (parseRealtimeEvent({ data: line }).isGeneric) console.log(line);
  else count += 1;
}
console.log(`${count} read`);
