// What was said in a call, line by line: the model that captions, copy and download show. Pure.

export class Transcript {
  lines = []; // {side, item, at, clauses: [{text, ms}], final, played, heard, timing}
  #byItem = new Map();

  constructor(now = () => new Date()) {
    this.now = now;
  }

  get(item) {
    return this.#byItem.get(item);
  }

  // More words of an item; those of a reply begin `ms` into its audio.
  add(side, item, text, ms) {
    const line = this.#line(side, item);
    line.clauses.push({ text, ms });
    return line;
  }

  // The item is complete; `text`, when given, is its final wording. Answers null for an item
  // that has none: it is no line.
  finish(side, item, text) {
    if (text === undefined && !this.#byItem.has(item)) return null;
    const line = this.#line(side, item);
    if (text !== undefined) line.clauses = [{ text, ms: 0 }];
    line.final = true;
    if (wording(line).trim()) return line;
    this.lines.splice(this.lines.indexOf(line), 1);
    this.#byItem.delete(item);
    return null;
  }

  // So many milliseconds of it have been heard. Answers the line where that changes how it looks.
  play(item, ms) {
    const line = this.#byItem.get(item);
    if (!line || line.final) return null;
    const begun = (at) => line.clauses.filter((clause) => clause.ms < at).length;
    const changes = begun(ms) !== begun(line.played);
    line.played = ms;
    return changes ? line : null;
  }

  // Of an interrupted item only `text` was heard; an answer that does not fit says nothing.
  hear(item, text) {
    const line = this.#byItem.get(item);
    if (!line || !wording(line).startsWith(text)) return null;
    line.heard = text;
    line.final = true;
    return line;
  }

  toText(names) {
    return this.lines
      .map((line) => `[${clock(line.at)}] ${names[line.side]}: ${heardOf(line).trim()}${struck(line)}`)
      .join("\n");
  }

  #line(side, item) {
    const line = this.#byItem.get(item) ?? {
      side,
      item,
      at: this.now(),
      clauses: [],
      final: false,
      played: 0, // ms of its audio
      heard: null, // what was heard, where that is not all
      timing: null,
    };
    if (!this.#byItem.has(item)) this.lines.push(line);
    this.#byItem.set(item, line);
    return line;
  }
}

export const wording = (line) => line.clauses.map(({ text }) => text).join("");

// What of it was heard, and what was not.
export const heardOf = (line) => line.heard ?? wording(line);
const unheardOf = (line) => wording(line).slice(heardOf(line).length);

// A line as stretches of one kind: "said", "coming" (its sound has not begun) or "unheard".
export function stretches(line) {
  if (line.heard !== null) {
    const unheard = unheardOf(line).trimStart();
    return [
      { kind: "said", text: wording(line).slice(0, wording(line).length - unheard.length) },
      { kind: "unheard", text: unheard },
    ];
  }
  const said = (clause) => line.final || (line.side === "me" && clause.ms < line.played);
  return line.clauses.map((clause) => ({ kind: said(clause) ? "said" : "coming", text: clause.text }));
}

const struck = (line) => (unheardOf(line).trim() ? ` ~~${unheardOf(line).trim()}~~` : "");
const clock = (date) => date.toTimeString().slice(0, 8);
