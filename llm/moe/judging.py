"""Questions with checkable answers (questions.toml), and whether a reply answers one.

A right answer counts however it is said: numbers in words or digits, English or Chinese, with or
without marks and capitals. Pure, but for reading the file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cn2an
import msgspec
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from llm.interfaces import Message, Tool, ToolCall

QUESTIONS = Path(__file__).with_name("questions.toml")

Value = str | float | bool


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last of `ask` is answered; questions.toml explains the checks, all of which must hold."""

    ask: tuple[str, ...]
    accept: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    number: float | None = None
    form: str = ""
    words: tuple[int, int] | None = None
    call: str | None = None
    """None: no tools are offered with it."""
    arguments: dict[str, Value | tuple[Value, ...]] = {}

    def messages(self) -> tuple[Message, ...]:
        """What caller and assistant said by turns, the caller first and last."""
        roles = ("user", "assistant") * len(self.ask)
        return tuple(Message(role, said) for role, said in zip(roles, self.ask, strict=False))  # type: ignore[arg-type]


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    questions: dict[str, tuple[Question, ...]]
    """By kind."""
    tools: tuple[dict[str, Any], ...]

    def asked(self) -> list[str]:
        """What is said in them, by caller and assistant."""
        return [text for kind in self.questions.values() for q in kind for text in q.ask]

    def toolbox(self) -> tuple[Tool, ...]:
        return tuple(Tool(**tool) for tool in self.tools)


def load(path: Path = QUESTIONS) -> Questions:
    """Raises OSError, msgspec.ValidationError."""
    return msgspec.toml.decode(path.read_bytes(), type=Questions)


def every() -> Iterator[Questions]:
    """All sets of questions: those that judge, and those that only choose."""
    return map(load, sorted(QUESTIONS.parent.glob("*questions.toml")))


def right(question: Question, reply: str, calls: tuple[ToolCall, ...] = ()) -> bool:
    """Whether the reply, its text and its tool calls, answers the question."""
    if question.call:
        called = calls[0] if calls else ToolCall("", "", "")
        return called.name == question.call and _given(called.arguments, question.arguments)
    heard = spoken(reply)
    return (
        not calls
        and (not question.accept or any(says(heard, phrase) for phrase in question.accept))
        and all(says(heard, phrase) for phrase in question.require)
        and not any(says(heard, phrase) for phrase in question.refuse)
        and (question.number is None or _comes_to(question, heard))
        and re.search(question.form, reply.strip()) is not None
        and _is_long(reply, *question.words or (1, 1000))
    )


def spoken(text: str) -> str:
    """`text` as it can be compared: lower case, numbers as digits, without marks."""
    text = re.sub(r"(\d):00\b", r"\1", text)
    # A mark ends a number, unless digits follow it: "four, five" is not forty-five.
    pieces = re.split(r"[,.](?!\d)|[;:!?()\n，。；：！？、（）—–*\"“”]", text)
    return " ".join(filter(None, (_spoken(piece) for piece in pieces)))


@cache
def _normalizer() -> EnglishTextNormalizer:
    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]


@cache
def _spoken(piece: str) -> str:
    if re.search("[零一二两三四五六七八九十百千万]", piece):
        with warnings.catch_warnings():
            # What only looks like a number ("万一") is warned of, and left as it is.
            warnings.simplefilter("ignore")
            piece = cn2an.transform(piece, "cn2an")
    plain: str = _normalizer()(piece.replace("’", "'"))
    # The normaliser leaves a lone "one" alone.
    return re.sub(r"\bone\b", "1", plain).strip()


def says(heard: str, phrase: str) -> bool:
    """Whether `heard`, which is `spoken`, has the phrase; in Latin script as words of their own."""
    wanted = re.escape(spoken(phrase))
    return re.search(f"(?<![a-z0-9]){wanted}(?![a-z0-9])", heard) is not None


def numbers(heard: str) -> list[float]:
    """Those in a `spoken` text, in order."""
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", heard)]


def _comes_to(question: Question, heard: str) -> bool:
    """Whether the number is the first or the last said that does not just repeat the question;
    between them are the steps of a calculation. What the question has too must come last."""
    wanted, said = question.number, numbers(heard)
    asked = {number for turn in question.ask[::2] for number in numbers(spoken(turn))}
    if wanted in asked:
        return said[-1:] == [wanted]
    # A one is seldom a number: "that one", "一起".
    idle = (asked | {1.0}) - {wanted}
    said = [number for number in said if number not in idle]
    return wanted in (*said[:1], *said[-1:])


def _is_long(reply: str, fewest: int, most: int) -> bool:
    return fewest <= len(re.findall(r"[\w'’-]+", reply)) <= most


def _given(arguments: str, wanted: dict[str, Value | tuple[Value, ...]]) -> bool:
    try:
        given = msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.MsgspecError:
        return False
    return all(
        name in given
        and any(_matches(given[name], v) for v in (v if isinstance(v, tuple) else (v,)))
        for name, v in wanted.items()
    )


def _matches(given: object, wanted: Value) -> bool:
    heard = spoken(str(given))
    if isinstance(wanted, bool):
        return heard in (("true", "on", "yes", "1") if wanted else ("false", "off", "no", "0"))
    if isinstance(wanted, str):
        return says(heard, wanted)
    return numbers(heard) == [wanted]
