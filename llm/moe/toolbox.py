"""Tools to offer, and what callers say that needs one of them, or none."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from llm.moe.sums import capital, counted, say, say_chinese

_UNABLE, _RESULT = 0.15, 0.45
"""Shares: of wishes that no tool at hand meets; of calls whose result is spoken."""


def calls(
    rng: random.Random, book: Mapping[str, Any], language: str
) -> tuple[tuple[dict[str, Any], ...], list[list[tuple[str, str]]]]:
    """Tools, and wishes with the calls that meet them: each is one turn, or two with a result."""
    usable = [tool for tool in book["tools"] if language == "english" or "chinese" in tool]
    wished = rng.sample(usable, rng.choice((1, 2, 2, 3)))
    spare = rng.sample([tool for tool in book["tools"] if tool not in wished], rng.randint(1, 3))
    strands = [_called(rng, tool, language) for tool in wished]
    if rng.random() < _UNABLE:
        offered = {tool["can"] for tool in [*wished, *spare]}
        other = rng.choice([tool for tool in usable if tool["can"] not in offered])
        strands.append([_unable(rng, other, book, language)])
    offers = [*wished, *spare]
    rng.shuffle(offers)
    return tuple(map(schema, offers)), strands


def schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """In the shape of chat completions. A parameter is a type's name, or the values it may have."""
    properties = {
        name: {"type": kind} if isinstance(kind, str) else {"type": "string", "enum": kind}
        for name, kind in tool["parameters"].items()
    }
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {
        "name": tool["name"], "description": tool["description"], "parameters": parameters,
    }  # fmt: skip
    return {"type": "function", "function": function}


def call(name: str, arguments: Mapping[str, Any]) -> str:
    """The way that Qwen2.5 writes it."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def _called(rng: random.Random, tool: Mapping[str, Any], language: str) -> list[tuple[str, str]]:
    drawn = _slots(rng, tool, language)
    frame, given = rng.choice(tool[language])
    arguments = {
        name: _typed(value, drawn, tool["parameters"][name]) for name, value in given.items()
    }
    spoken = _spoken(drawn, language, words=rng.random() < 0.6)
    turns = [(capital(counted(frame.format(**spoken))), call(tool["name"], arguments))]
    if rng.random() < _RESULT:
        said = _spoken({**drawn, **arguments}, language, words=True)
        result = tool.get("result", '{{"ok": true}}').format(**drawn)
        replies = tool["reply" if language == "english" else "chinese_reply"]
        turns.append(
            (
                f"<tool_response>\n{result}\n</tool_response>",
                capital(counted(rng.choice(replies).format(**said))),
            )
        )
    return turns


def _slots(rng: random.Random, tool: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Values by name: integers between two bounds, or one of some words."""
    slots = {**tool.get("slots", {}), **tool.get(f"{language}_slots", {})}
    drawn: dict[str, Any] = {}
    for name, choices in slots.items():
        if isinstance(choices, list):
            drawn[name] = rng.randrange(choices[0], choices[1] + 1, *choices[2:])
        else:
            drawn[name] = rng.choice(choices.split(";")).strip()
    return drawn


def _spoken(drawn: Mapping[str, Any], language: str, *, words: bool) -> dict[str, Any]:
    number = say if language == "english" else say_chinese
    return {
        name: number(value) if type(value) is int and words else value
        for name, value in drawn.items()
    }


def _typed(value: Any, drawn: Mapping[str, Any], kind: Any) -> Any:
    """An argument as its parameter wants it."""
    if not isinstance(value, str):
        return value
    written = value.format(**drawn)
    return int(written) if kind in ("integer", "number") else written


def _unable(
    rng: random.Random, tool: Mapping[str, Any], book: Mapping[str, Any], language: str
) -> tuple[str, str]:
    spoken = _spoken(_slots(rng, tool, language), language, words=True)
    can = tool["can" if language == "english" else "chinese_can"]
    asked = rng.choice(tool[language])[0].format(**spoken)
    return capital(counted(asked)), rng.choice(book[language]["unable"]).format(can=can)
