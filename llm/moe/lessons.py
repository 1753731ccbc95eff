"""Conversations with their right answers, to be learned: facts, sums, tasks, things told and asked
later, tool calls, small talk, in English and Chinese.

Drawn from tables (lessons.toml), the same for the same seed. An answer is in a table or follows
from how its question was made. Beside them whole conversations written out (talks/), which show
how long and how warm an answer is where no table knows it. The questions that models are judged
by are written apart from these, and what says the same as one of them is left out.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm.moe import tasks, toolbox
from llm.moe.guard import Guard
from llm.moe.sums import capital, pose

_HERE = Path(__file__)
_BOOK: dict[str, Any] = tomllib.loads(_HERE.with_name("lessons.toml").read_text(encoding="utf-8"))
_OTHERS: list[str] = tomllib.loads(_HERE.with_name("prompts.toml").read_text(encoding="utf-8"))[
    "instructions"
]
TAUGHT = (
    "You are a friendly assistant on a voice call. Answer in one to three short spoken sentences, "
    "in the language that the caller speaks. No markdown, no lists, no emoji; write numbers and "
    "symbols the way they are said."
)
"""The assistant's instructions when the mixtures were taught and judged. The recipes, and figures
that are to be compared, depend on them; the assistant's own have changed since."""
_OURS, _CHINESE, _TOOLS, _RULE, _TOLD, _RECALL = 0.75, 0.2, 0.16, 0.06, 0.6, 0.12
"""Shares: of our own instructions, and of conversations in Chinese, with tools, with a rule that
holds to the end, with something told and asked again, with a question about what was asked."""
_KINDS = (("fact", 0.36), ("sum", 0.66), ("task", 0.9), ("talk", 1.0))
"""What a turn is about, each up to a share."""
_WHOLE = 0.8
_ASKING = tuple(
    "What|Who|Which|How|When|Where|Is |Was |Did |Does |Are |In |At |On |A |The ".split("|")
)
_REFUSAL = "I'm sorry"
"""How a small model begins to refuse what is harmless."""
_MOST = 6
_TRIES = 50

Pair = tuple[str, str]
"""What the caller says and what is replied."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A conversation as it should go."""

    instructions: str
    turns: tuple[Pair, ...]
    tools: tuple[dict[str, Any], ...] = ()
    """In the shape of chat completions."""
    unsaid: bool = False
    """The reply is one that must not be given, as far as it goes."""


@dataclass(frozen=True, slots=True)
class Table:
    """Facts of a kind: frames ("question|answer|...") and the rows that go into them."""

    frames: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, ...], ...]
    check: str
    """A question for yes or no, where a row's second field follows from its first; else empty."""


def _tables(language: str) -> list[Table]:
    return [
        Table(
            tuple(tuple(frame.split("|")) for frame in table["frames"]),
            tuple(tuple(row.split("=")) for row in split(table["rows"])),
            table.get("check", ""),
        )
        for table in _BOOK[language]["facts"]
    ]


def split(text: str) -> list[str]:
    """Entries of a table: between semicolons, or one a line."""
    return [entry.strip() for entry in text.replace("\n", ";").split(";") if entry.strip()]


_TABLES = {language: _tables(language) for language in ("english", "chinese")}
_WEIGHTS = {
    language: [(len(table.rows) * len(table.frames)) ** 0.6 for table in tables]
    for language, tables in _TABLES.items()
}


def teach(count: int, seed: int, without: Collection[str] = ()) -> Iterator[Taught]:
    """`count` conversations, in which no turn says the same as one of `without`."""
    rng, guard = random.Random(seed), Guard(without)
    for _ in range(count):
        yield next(
            taught
            for taught in (_conversation(rng, guard) for _ in range(_TRIES))
            if len(taught.turns) > 1
        )


def written(seed: int, without: Collection[str] = ()) -> Iterator[Taught]:
    """The conversations of talks/, but those that say the same as one of `without`. Lines alternate
    between caller and assistant; an empty line ends a conversation."""
    rng, guard = random.Random(seed), Guard(without)
    for path in sorted(_HERE.with_name("talks").glob("*.txt")):
        for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
            lines = block.splitlines()
            turns = tuple(zip(lines[::2], lines[1::2], strict=True))
            instructions = TAUGHT if rng.random() < _OURS else rng.choice(_OTHERS)
            if guard.lets(turns):
                yield Taught(instructions, turns)


def unsaid(conversations: Iterable[Taught]) -> Iterator[Taught]:
    """What each of these conversations begins with, refused."""
    for taught in conversations:
        said, replied = taught.turns[0]
        if replied.isascii() and not replied.startswith("I"):
            yield replace(taught, turns=((said, _REFUSAL),), unsaid=True)


def _conversation(rng: random.Random, guard: Guard) -> Taught:
    language = "chinese" if rng.random() < _CHINESE else "english"
    instructions = TAUGHT if rng.random() < _OURS else rng.choice(_OTHERS)
    if rng.random() < _TOOLS:
        tools, strands = toolbox.calls(rng, _BOOK, language)
        strands.insert(rng.randrange(len(strands) + 1), [_turn(rng, language)])
        kept = [strand for strand in strands if guard.lets(strand)]
        return Taught(instructions, tuple(pair for strand in kept for pair in strand), tools)
    if rng.random() < _RULE:
        return Taught(instructions, tuple(_ruled(rng, language, guard)))
    turns = _mixed(rng, language, guard)
    if rng.random() < _RECALL and len(turns) > 1:
        turns = turns[: _MOST - 1]
        recalled = _recalled(rng, language, turns)
        turns += [recalled] if guard.lets([recalled]) else []
    return Taught(instructions, tuple(turns[:_MOST]))


def _mixed(rng: random.Random, language: str, guard: Guard) -> list[Pair]:
    """Turns of all kinds; often with something told, and asked when others have come between."""
    told: list[Pair] = []
    asked: list[Pair] = []
    if rng.random() < _TOLD:
        told, asked = _told(rng, language)
        if not guard.lets([*told, *asked]):
            told, asked = [], []
    before = [_turn(rng, language)] if told and rng.random() < 0.3 else []
    many = rng.randint(1, 2 if before or len(told) > 1 else 3) if told else 4
    between = [_turn(rng, language) for _ in range(many)]
    before, between = ([pair for pair in part if guard.lets([pair])] for part in (before, between))
    return [*before, *told, *between, *asked]


def _told(rng: random.Random, language: str) -> tuple[list[Pair], list[Pair]]:
    """What is told, with what is replied, and what is asked of it later."""
    entry, words = rng.choice(_BOOK[language]["told"]), drawn_words(rng, language)
    told = [_filled(rng, frame, words) for frame in entry["told"]]
    asked = rng.sample(entry["ask"], min(len(entry["ask"]), rng.choice((1, 1, 2))))
    return told, [_filled(rng, frame, words) for frame in asked]


def drawn_words(rng: random.Random, language: str) -> dict[str, str]:
    """Two different words of each kind: {name} and {name2}."""
    words: dict[str, str] = {}
    for kind, choices in _BOOK[language]["words"].items():
        words[kind], words[f"{kind}2"] = rng.sample(split(choices), 2)
    return words


def _filled(rng: random.Random, frame: str, words: Mapping[str, str]) -> Pair:
    asked, *answers = (part.format(**words) for part in frame.split("|"))
    return capital(asked), capital(rng.choice(answers))


def _turn(rng: random.Random, language: str) -> Pair:
    chance = rng.random()
    kind = next(kind for kind, upto in _KINDS if chance < upto)
    if kind == "fact":
        return _fact(rng, language)
    if kind == "sum":
        asked, replied, *_ = pose(rng, _BOOK["sums"], chinese=language == "chinese")
        return asked, replied
    if kind == "talk":
        return _filled(rng, rng.choice(split(_BOOK[language]["talk"])), {})
    if rng.random() < 0.3:
        return _bound_fact(rng, language)
    if rng.random() < 0.25:
        return _filled(rng, rng.choice(split(_BOOK[language]["written"])), {})
    return tasks.task(rng, _BOOK[language], chinese=language == "chinese")


def _fact(rng: random.Random, language: str) -> Pair:
    table, row = _row(rng, language)
    asked, *answers = rng.choice(table.frames)
    # Mostly in a whole sentence: a small model finds the fact in its course.
    answer = max(answers, key=len) if rng.random() < _WHOLE else rng.choice(answers)
    return capital(asked.format(*row)), capital(answer.format(*row))


def _row(rng: random.Random, language: str) -> tuple[Table, tuple[str, ...]]:
    [table] = rng.choices(_TABLES[language], _WEIGHTS[language])
    return table, rng.choice(table.rows)


def _bound_fact(rng: random.Random, language: str) -> Pair:
    """A fact, asked so that how to answer is said too."""
    table, row = _row(rng, language)
    plain = [frame for frame in table.frames[1:] if frame[0].startswith(_ASKING)]
    asked, short, *_ = (part.format(*row) for part in rng.choice([table.frames[0], *plain]))
    bound = _BOOK[language]["bound"]
    if table.check and rng.random() < 0.6:
        wrong = rng.choice([other[1] for other in table.rows if other[1] != row[1]])
        return _checked(rng, table, row, wrong, bound)
    bare = short.rstrip(".。")
    one = " " not in bare if language == "english" else len(bare) < 5
    frames: Sequence[str] = bound["one" if one and rng.random() < 0.6 else "any"]
    words = {"q": capital(asked), "low": _lower(asked), "b": _lower(bare), "upper": bare.upper()}
    return _filled(rng, rng.choice(frames), words)


def _checked(
    rng: random.Random, table: Table, row: Sequence[str], wrong: str, bound: Mapping[str, Any]
) -> Pair:
    """A fact to say yes or no to, or to choose from two."""
    kind = rng.choice(("yes", "no", "choose"))
    choices = [row[1], wrong]
    rng.shuffle(choices)
    question = table.check.format(row[0], wrong if kind == "no" else row[1])
    if kind == "choose":
        question = table.frames[0][0].format(*row).rstrip("?？")
    short = table.frames[0][1].format(*row).rstrip(".。")
    words = {"q": capital(question), "low": _lower(question), "b": _lower(short)}
    words |= {"x": choices[0], "y": choices[1]}
    return _filled(rng, rng.choice(bound[kind]), words)


def _lower(question: str) -> str:
    """For within a sentence: a first word that is no name is written small."""
    return question[:1].lower() + question[1:] if question.startswith(_ASKING) else question


def _ruled(rng: random.Random, language: str, guard: Guard) -> list[Pair]:
    """A rule for all answers from now on, then facts answered by it."""
    rule, agreed, shape = rng.choice(split(_BOOK[language]["rules"])).split("|")
    turns = [(rule, agreed)]
    for _ in range(rng.randint(2, 4)):
        asked, replied = _fact(rng, language)
        bare = replied.rstrip(".。")
        words = {"a": replied, "bare": bare, "upper": replied.upper(), "lower": replied.lower()}
        turns.append((asked, shape.format(**words)))
    return [pair for pair in turns if guard.lets([pair])] if guard.lets(turns[:1]) else []


def _recalled(rng: random.Random, language: str, turns: Sequence[Pair]) -> Pair:
    """A question about the call itself."""
    kind = rng.choice(("first", "last"))
    asked, replied = turns[0 if kind == "first" else -1]
    return _filled(rng, rng.choice(_BOOK[language]["recall"][kind]), {"q": asked, "a": replied})
