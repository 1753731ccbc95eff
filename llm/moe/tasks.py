"""Small tasks on words and numbers that are to be done exactly as said."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from llm.moe.sums import capital, counted, say, say_chinese


def task(rng: random.Random, book: Mapping[str, Any], *, chinese: bool) -> tuple[str, str]:
    """What is asked and the answer, of a language's part of lessons.toml."""
    kind = rng.choice(sorted(book["tasks"]))
    words = (_chinese if chinese else _english)(rng, book)
    asked, *answers = rng.choice(book["tasks"][kind]).split("|")
    return capital(asked.format(**words)), capital(rng.choice(answers).format(**words))


def _english(rng: random.Random, book: Mapping[str, Any]) -> dict[str, str]:
    groups = {kind: names.split() for kind, names in book["groups"].items()}
    kind, other = rng.sample(sorted(groups), 2)
    mine, theirs = rng.sample(groups[kind], 5), rng.sample(groups[other], 2)
    word = mine[0]
    by_letter = rng.sample(groups[kind], 3)
    lengths = {len(one): one for one in mine}
    ranked = [lengths[size] for size in sorted(lengths)]
    mixed = [mine[0], theirs[0], theirs[1]]
    rng.shuffle(mixed)
    sentence = rng.choice(book["sentences"]).strip()
    return {
        "word": word, "kind": kind, "upper": word.upper(), "sentence": sentence,
        "shout": sentence.upper(), "spelt": "-".join(word.upper()), "first": word[0].upper(),
        "last": word[-1].upper(), "letters": say(len(word)), "backwards": word[::-1],
        "count": say(len(sentence.split())), "lead": sentence.split()[0].strip(",."),
        "tail": sentence.split()[-1].strip(",."),
        "one": mine[1], "two": mine[2], "three": mine[3], "four": mine[4],
        "short": ranked[0], "mid": ranked[len(ranked) // 2], "long": ranked[-1],
        "mixed": f"{mixed[0]}, {mixed[1]} or {mixed[2]}",
        "unsorted": ", ".join(by_letter), "sorted": ", ".join(sorted(by_letter)),
        "alpha": min(by_letter), "omega": max(by_letter),
        "pair": " or ".join(rng.sample([ranked[0], ranked[-1]], 2)),
        **_counting(rng),
        **_about(rng, book),
    }  # fmt: skip


def _counting(rng: random.Random) -> dict[str, str]:
    high, low = rng.randint(5, 12), rng.randint(1, 3)
    down = [say(number) for number in range(high, low - 1, -1)]
    step = rng.choice((2, 3, 5, 10))
    return {
        "high": say(high), "low": say(low), "down": ", ".join(down), "up": ", ".join(down[::-1]),
        "step": say(step), "by": ", ".join(say(step * place) for place in range(1, 6)),
        "upto": say(step * 5),
    }  # fmt: skip


def _about(rng: random.Random, book: Mapping[str, Any]) -> dict[str, str]:
    """A topic, something said about it, and what is true of that: its words, a letter not in it."""
    topic, sayings = rng.choice(sorted(book["topics"].items()))
    said = rng.choice(sayings.split(";"))
    words = [word.strip(",") for word in said.split()]
    used = {*said.lower()}
    absent = [letter for letter in "etaoinshrdlucmfgpbk" if letter not in used]
    spare = [word for word in ("nice", "thing", "good", "very", "animal") if word not in words]
    return {
        "topic": topic, "said": said, "loud": said.upper(), "size": say(len(words)),
        "begin": words[0], "end": words[-1], "missing": rng.choice(absent[:6]).upper(),
        "taboo": rng.choice(spare),
    }  # fmt: skip


def _chinese(rng: random.Random, book: Mapping[str, Any]) -> dict[str, str]:
    groups = {kind: names.split() for kind, names in book["groups"].items()}
    kind, other = rng.sample(sorted(groups), 2)
    mine, theirs = rng.sample(groups[kind], 5), rng.sample(groups[other], 2)
    mixed = [mine[0], theirs[0], theirs[1]]
    rng.shuffle(mixed)
    high, sentence = rng.randint(5, 12), rng.choice(book["sentences"]).strip()
    topic, sayings = rng.choice(sorted(book["topics"].items()))
    said = rng.choice(sayings.split(";"))
    numbers = [say_chinese(number) for number in range(1, high + 1)]
    return {
        "word": mine[0], "kind": kind, "sentence": sentence,
        "letters": counted(say_chinese(len(mine[0])) + "个")[:-1],
        "count": say_chinese(len(sentence)), "lead": sentence[0], "tail": sentence[-1],
        "first": mine[0][0], "last": mine[0][-1], "backwards": mine[0][::-1],
        "one": mine[1], "two": mine[2], "three": mine[3], "four": mine[4],
        "mixed": "、".join(mixed), "high": numbers[-1], "up": "、".join(numbers),
        "down": "、".join(numbers[::-1]), "topic": topic, "said": said,
        "size": counted(say_chinese(len(said)) + "个")[:-1],
    }  # fmt: skip
