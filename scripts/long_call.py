"""How late is the first token after 2, 10, 30 and 50 minutes of a call?

    .venv/bin/python scripts/long_call.py SMALL.gguf --json out/llm/long.json
    .venv/bin/python scripts/long_call.py LARGE.gguf --said out/llm/long.json

A call of 120 turns in text, one every 25 seconds, through the conversation, the window and the
upkeep of the real one. Nobody waits for the speech: but what a call does in quiet gets only the
seconds for which the reply would be played, and a pause. At each mark five questions are asked,
three times each, whose words, but for the last, are read ahead as in a call; they leave no trace in
it. By turns with them they are asked in a call that stays as it was after two minutes. At the end
the caller asks for twelve things that she told, one every few minutes. `--said` takes the replies
of a kept call, and saves the minutes of writing them.
"""

from __future__ import annotations

import asyncio
import json
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from assistant.config import Config, load_config
from assistant.conversation import caller_turn, spoken_reply
from assistant.engines import Engines
from assistant.memory import Memory
from assistant.metrics import clock
from assistant.policy import defaults, window
from assistant.tasks import Tasks
from assistant.upkeep import Upkeep
from assistant.wire.settings import SessionSettings
from llm.interfaces import Finished, Sampling, TextDelta
from llm.llamacpp import LlamaCppEngine

TURN = 25.0
"""Seconds from one turn to the next."""
MARKS = {5: "2 min", 24: "10 min", 72: "30 min", 120: "50 min"}
_WORDS_A_SECOND, _PAUSE = 2.5, 1.5
_REPLY = 30
"""Tokens of a reply, at most."""
_TOPICS = (
    "bread", "old clocks", "sailing", "rain", "mountain huts", "coffee", "violins", "gardens",
    "night trains", "cheese", "lighthouses", "chess", "painting", "bees", "bicycles", "maps",
    "winter", "market days", "libraries", "harbours", "kites", "tea", "forests", "radio plays",
)  # fmt: skip
_LINES = (
    "Tell me something about {}, please.",
    "What do people like about {}, do you think?",
    "My neighbour talks about {} all day. What could I ask her?",
    "How would you explain {} to a child of five?",
    "I have read a book about {}. What should I read next?",
)
_ROUNDS = 3
_TOLD = {
    1: "Hello, my name is Rosalind and I am a sailor.",
    9: "My dog is called Biscuit, by the way.",
    17: "I was born in Aberdeen, you know.",
    25: "My brother Henry lives in Canada.",
    33: "I must not forget that I am allergic to peanuts.",
    41: "My favourite colour is green.",
    49: "The first boat that I owned was called the Silver Gull.",
    57: "I have an appointment at the dentist on Thursday.",
    65: "My granddaughter plays the cello.",
    73: "We keep the spare key under the flowerpot.",
    81: "I met my husband at a dance in Glasgow.",
}
"""By turn: what the caller tells of herself before she asks something."""
_ASKED = {
    "What is my name?": "rosalind",
    "What is my job?": "sailor",
    "What is my dog called?": "biscuit",
    "Where was I born?": "aberdeen",
    "In which country does my brother live?": "canada",
    "What is it that I am allergic to?": "peanut",
    "Do you remember my favourite colour?": "green",
    "What was the name of my first boat?": "gull",
    "On which day do I go to the dentist?": "thursday",
    "Which instrument does my granddaughter play?": "cello",
    "Where do we keep the spare key?": "flowerpot",
    "Where did I meet my husband?": "glasgow",
}
"""At the end: what is asked, and what the reply must hold."""
_PROBES = (
    "Which colour goes well with dark blue?",
    "How long should I boil an egg?",
    "What could I cook for two people tonight?",
    "Do you know a good name for a boat?",
    "Is it better to walk in the morning or in the evening?",
)


class Call:
    """What a session and its slot are to the upkeep; the language model is the only engine."""

    def __init__(self, engine: LlamaCppEngine, config: Config) -> None:
        self.memory = Memory(window(config))
        self.settings = SessionSettings(defaults(config, engine.name), "sess", {})
        self.llm, self.free = engine.open(), asyncio.Lock()
        engines = Engines(None, None, None, None, engine)  # type: ignore[arg-type]
        self.tasks = Tasks(print)
        self.upkeep = Upkeep(self, self, engines, self.tasks)

    async def turn(self, number: int, said: str, text: str | None) -> str:
        """The caller's words, the reply (`text`, or the model's), and the quiet behind it."""
        if text is None:
            text, _ = await self.ask(said, _REPLY)
        self.add(number, said, text)
        self.upkeep.heed(quiet=True)
        quiet = len(text.split()) / _WORDS_A_SECOND + _PAUSE
        ended = asyncio.create_task(self.tasks.ended())
        await asyncio.wait([ended], timeout=min(quiet, TURN))
        self.upkeep.heed(quiet=False)
        await ended
        return text

    def add(self, number: int, said: str, text: str) -> None:
        conversation = self.memory.conversation
        conversation.add(caller_turn(f"caller_{number}", said))
        conversation.add(spoken_reply(f"reply_{number}", speaks=True))
        conversation.set_reply(f"reply_{number}", text, "completed")

    async def close(self) -> None:
        await self.upkeep.close()
        await self.llm.close()

    async def ask(self, said: str, max_tokens: int) -> tuple[str, float]:
        """The reply, and the seconds to its first token."""
        settings = self.settings.response()
        async with self.free:
            await self.llm.prefill(self.memory.prompt(settings, said.rpartition(" ")[0]))
            text, begun, first = "", clock(), 0.0
            sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
            async for part in self.llm.reply(self.memory.prompt(settings, said), sampling):
                first = first or clock() - begun
                text += part.text if isinstance(part, TextDelta) else ""
        return text, first


async def measure(path: Path, config: Config, said: list[str]) -> dict[str, Any]:
    """`said`: the replies, as many as are given; the model writes the others."""
    llm = config.llm
    engine = LlamaCppEngine(path, slots=3, context=llm.context, threads=llm.threads)
    call, young = Call(engine, config), Call(engine, config)
    marks, moves, replies = dict[str, Any](), 0, list[str]()
    asked = enumerate((line.format(topic) for line, topic in product(_LINES, _TOPICS)), 1)
    for number, line in ((n, f"{_TOLD.get(n, '')} {line}".strip()) for n, line in asked):
        before = call.memory.conversation.window
        given = said[number - 1] if number <= len(said) else None
        replies.append(await call.turn(number, line, given))
        moves += before != call.memory.conversation.window
        if number <= min(MARKS):
            young.add(number, line, replies[-1])
        if mark := MARKS.get(number):
            marks[mark] = await _mark(call, young)
            print(path.stem, mark, {k: round(v, 3) for k, v in marks[mark].items()}, flush=True)
    remembered = {question: await call.ask(question, 30) for question in _ASKED}
    right = sum(_ASKED[question] in text.casefold() for question, (text, _) in remembered.items())
    recalling = median(first for _, first in remembered.values())
    await call.close()
    await young.close()
    await engine.aclose()
    summary = call.memory.conversation.window.summary
    found = {"marks": marks, "moves": moves, "summary": summary, "remembered": remembered}
    return {**found, "right": right, "recalling": recalling, "said": replies}


async def _mark(call: Call, young: Call) -> dict[str, float]:
    """The first token's delay now, and beside it, question by question, that of a call of two
    minutes: the machine is faster in one minute than in the next."""
    delays = [
        [(await each.ask(probe, 1))[1] for each in (call, young)] for probe in _PROBES * _ROUNDS
    ]
    now, beside = (median(each) for each in zip(*delays, strict=True))
    tokens = await _prompt_tokens(call)
    return {"first_token": now, "beside": beside, "ratio": now / beside, "prompt_tokens": tokens}


async def _prompt_tokens(call: Call) -> int:
    prompt = call.memory.prompt(call.settings.response(), _PROBES[-1])
    sampling = Sampling(temperature=0.0, max_tokens=1)
    parts = [part async for part in call.llm.reply(prompt, sampling)]
    return sum(part.input_tokens for part in parts if isinstance(part, Finished))


def main(
    models: list[Path],
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    said: Annotated[Path | None, typer.Option(help="a call kept by --json")] = None,
    window_size: Annotated[int, typer.Option("--window")] = 0,
    threads: int = 2,
) -> None:
    """Print the delays in seconds, how often the window moved, and what was known at the end."""
    found = {}
    kept = next(iter(json.loads(said.read_text()).values()))["said"] if said else []
    for path in models:
        config = load_config(None, {}, {"llm.window": window_size, "llm.threads": threads})
        found[path.stem] = figures = asyncio.run(measure(path, config, kept))
        shown = ("moves", "summary", "right", "recalling")
        print(path.stem, {name: figures[name] for name in shown}, flush=True)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
