"""What callers might say: conversations that a model is calibrated and distilled on.

Drawn from frames and words (prompts.toml, topics/), the same for the same seed. They are the
caller's side only; the replies are the dense model's own. The questions that models are judged by
are written apart from these, and a conversation that holds one of them is left out.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BOOK: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8")
)
_TOPICS = Path(__file__).with_name("topics")
for _language in ("english", "chinese"):
    _BOOK[_language]["things"] += (_TOPICS / f"{_language}.txt").read_text("utf-8").splitlines()
for _said in (_TOPICS / "said.txt").read_text("utf-8").splitlines():
    _BOOK["english" if _said.isascii() else "chinese"]["daily"].append(_said)
_CHINESE, _TOOLS, _TOLD = 0.22, 0.15, 0.5
"""Shares of the conversations: in Chinese, with tools, with something told and asked again."""
_MOST = 6
"""Turns of a conversation."""
_ENGLISH_KINDS = (("frames", 0.5), ("daily", 0.75), ("land_frames", 0.82), ("memories", 0.88))
_CHINESE_KINDS = (("frames", 0.55), ("daily", 0.88))
_NOUNS = {"frames": "things", "land_frames": "lands", "memories": "things"}


@dataclass(frozen=True, slots=True)
class Conversation:
    instructions: str
    turns: tuple[str, ...]
    """What the caller says, one after another."""
    tools: tuple[dict[str, Any], ...] = ()
    """In the shape of chat completions."""


def draw(count: int, seed: int, without: Collection[str] = ()) -> Iterator[Conversation]:
    """`count` conversations, less those in which a turn says the same as one of `without`."""
    rng = random.Random(seed)
    barred = {plain(text) for text in without}
    for _ in range(count):
        conversation = _conversation(rng)
        if barred.isdisjoint(map(plain, conversation.turns)):
            yield conversation


def plain(text: str) -> str:
    """Letters and digits only, in lower case."""
    return re.sub(r"[\W_]+", "", text.lower())


def _conversation(rng: random.Random) -> Conversation:
    chinese, tools = rng.random() < _CHINESE, rng.random() < _TOOLS
    instructions = rng.choice(_BOOK["instructions"])
    if tools:
        return _with_tools(rng, instructions)
    turns = [_turn(rng, chinese) for _ in range(rng.randint(3, 5))]
    if rng.random() < _TOLD:
        told, asked = (_fill(rng, part) for part in _pair(rng, chinese))
        at = rng.randrange(len(turns))
        turns = [*turns[:at], told, *turns[at : at + 2], asked, *turns[at + 2 :]]
    return Conversation(instructions, tuple(turns[:_MOST]))


def _pair(rng: random.Random, chinese: bool) -> tuple[str, str]:
    """What is told and what is asked later, of the same thing."""
    told, asked = rng.choice(_BOOK["chinese" if chinese else "english"]["told"])
    pet = rng.choice(_BOOK["words"]["pet"])
    return told.replace("{pet}", pet), asked.replace("{pet}", pet)


def _turn(rng: random.Random, chinese: bool) -> str:
    book = _BOOK["chinese" if chinese else "english"]
    chance = rng.random()
    kinds = _CHINESE_KINDS if chinese else _ENGLISH_KINDS
    kind = next((kind for kind, upto in kinds if chance < upto), "sums")
    frame = rng.choice(book[kind])
    if kind in _NOUNS:
        return str(frame.format(*rng.sample(book[_NOUNS[kind]], frame.count("{}"))))
    return _fill(rng, frame) if kind == "sums" or chinese else str(frame)


def _with_tools(rng: random.Random, instructions: str) -> Conversation:
    chosen = rng.sample(_BOOK["tools"], rng.randint(2, 4))
    first, second = (_fill(rng, rng.choice(tool["asked"])) for tool in rng.sample(chosen, 2))
    turns = (first, _turn(rng, chinese=False), second)
    return Conversation(instructions, turns, tuple(map(_tool, chosen)))


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in tool["parameters"].items()},
        "required": list(tool["parameters"]),
    }
    function = {"name": tool["name"], "description": tool["description"], "parameters": schema}
    return {"type": "function", "function": function}


def _fill(rng: random.Random, frame: str) -> str:
    divisor = rng.randint(2, 9)
    a, b = sorted((rng.randint(3, 99), rng.randint(2, 60)), reverse=True)
    numbers = {
        "small": rng.randint(2, 9), "other": rng.randint(2, 9), "hour": rng.randint(1, 11),
        "a": a, "b": b, "c": rng.randint(3, 15), "d": divisor, "e": divisor * rng.randint(3, 12),
        "even": 2 * rng.randint(4, 50), "percent": rng.choice((5, 10, 20, 25, 50)),
        "hundred": 100 * rng.randint(1, 8), "year": rng.randint(30, 69),
    }  # fmt: skip
    words = {kind: rng.choice(choices) for kind, choices in _BOOK["words"].items()}
    return frame.format(**numbers, **words)
