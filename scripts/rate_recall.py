"""What does a turn recall of a long call (assistant/recall.py): what it asks for, or other things?

    PYTHONPATH=.:scripts .venv/bin/python scripts/rate_recall.py

Calls are put together from talks that have nothing to do with each other (llm/moe/talks): what is
recalled of another talk nobody asked for. And from questions about something told before (of
llm/moe/*questions.toml) between such talks: there it should be what was told. No model is asked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from assistant.recall import Sentence, recalled, sentences
from llm.moe.judging import every
from llm.moe.lessons import written

_CALLS, _TALKS, _SEED = 6, 45, 1

Talk = tuple[str, ...]
"""What caller and assistant say by turns, the caller first."""


def _heard(talks: Sequence[Talk], step: int = 1) -> list[Sentence]:
    """Of both, or with a `step` of 2 of the caller alone."""
    return [each for talk in talks for text in talk[::step] for each in sentences(text)]


def unasked(talks: Sequence[Talk]) -> Iterator[bool]:
    """For each turn of the caller's in one call, whether it recalls something of earlier talks."""
    for at, talk in enumerate(talks):
        told = _heard(talks[:at], 2)
        for turn in range(0, len(talk), 2):
            yield bool(recalled(talk[turn], told, _heard([*talks[:at], talk[:turn]])))


def asked(questions: Sequence[Talk], talks: Sequence[Talk]) -> Iterator[str]:
    """For each last turn of `questions`, whether what was told is recalled, or another sentence."""
    call = [*(question[:-1] for question in questions), *talks]
    told, both = _heard(call, 2), _heard(call)
    for *before, question in questions:
        found = recalled(question, told, both)
        own = any(sentence in text for sentence in found for text in before[::2])
        yield "nothing" if not found else "what was told" if own else "something else"


def main() -> None:
    draw = random.Random(_SEED)
    talks: list[Talk] = [
        tuple(said for pair in taught.turns for said in pair) for taught in written(_SEED)
    ]
    chinese = [talk for talk in talks if not talk[0].isascii()]
    english = [talk for talk in talks if talk[0].isascii()]
    for language, of in (("English", english), ("Chinese", chinese)):
        turns = [found for _ in range(_CALLS) for found in unasked(draw.sample(of, _TALKS))]
        print(f"{language}: {sum(turns)} of {len(turns)} turns recall what nobody asked for")
    memory = [q.ask for s in every() for q in s.questions.get("memory", ()) if len(q.ask) > 2]
    found = Counter(
        each
        for call in range(_CALLS)
        for each in asked(memory[call::_CALLS], draw.sample(english, _TALKS))
    )
    print(f"{len(memory)} questions about what was told recall {dict(found)}")


if __name__ == "__main__":
    main()
