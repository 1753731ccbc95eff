"""What was said long ago that a turn's words ask for: found by the words that both share, pure.

A word counts for more, the fewer sentences of the call have it (inverse document frequency,
Spärck Jones 1972). So no list of small words is needed in any language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_QUESTION = ("?", "？")
_RARE = 0.01
"""Of the call's sentences: a word that no more have (or two of them) is rare."""
_SHARE = 0.3
"""Of the worth of all words that ask: what a sentence about the same has at least."""
_NEARLY = 0.7
"""Of the best sentence's worth: what a second one has at least."""


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    terms: frozenset[str]

    def tells(self, asked: frozenset[str]) -> bool:
        """Whether it says more than the words that ask."""
        return not self.text.endswith(_QUESTION) and not self.terms <= asked


def sentences(text: str) -> tuple[Sentence, ...]:
    stripped = (each.strip() for each in _SENTENCE.findall(text))
    return tuple(Sentence(each, terms(each)) for each in stripped if each)


def terms(text: str) -> frozenset[str]:
    """What is compared: words without a plural's s, and of scripts without spaces pairs of
    characters."""
    words = set(re.findall(r"[^\W_]+", text.casefold()))
    dense = {word for word in words if any("\u3040" <= character <= "\u9fff" for character in word)}
    pairs = {word[at : at + 2] for word in dense for at in range(len(word) - 1)}
    return frozenset(pairs.union(w.removesuffix("s") if len(w) > 3 else w for w in words - dense))


def recalled(words: str, told: Sequence[Sentence], call: Sequence[Sentence]) -> list[str]:
    """The sentences among `told` that `words` ask for, in order: none, one or two.

    `call`: all sentences of the call before those words, which tell how much a word is worth. What
    is found shares a rare word with those that ask, and much of their worth."""
    asked = terms(words)
    having = {term: sum(term in each.terms for each in call) for term in asked}
    worth = {term: log((len(call) + 1) / (number + 0.5)) for term, number in having.items()}
    rare = {term for term in asked if having[term] <= max(2, _RARE * len(call))}
    shared = [
        sum(worth[term] for term in asked & each.terms)
        if rare & each.terms and each.tells(asked)
        else 0.0
        for each in told
    ]
    least = max(_SHARE * sum(worth.values()), _NEARLY * max(shared, default=0.0))
    best = sorted(range(len(told)), key=lambda at: (shared[at], at))[-2:]
    return [told[at].text for at in sorted(best) if shared[at] >= least > 0]
