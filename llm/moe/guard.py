"""Keeping what is judged out of what is taught: texts that say the same in other words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from llm.moe.sums import say

_STOP = frozenset(
    "a an the and or but of to in on at for from with by as is are was were be been am do does did "
    "have has had i me my you your he him his she her it its we us our they them their this that "
    "these those what what's which who whom whose when where why how can could will would shall "
    "should may might must please so um uh well hey hello hi ok okay now then there here tell say "
    "give much many any some no not yes if let's i'm it's that's i've don't one's just about "
    "thanks thank".split()
)
_SHARE = 0.8
"""Of a Chinese text's pairs of characters, for it to be the same."""
_FEW = 2
"""With fewer content words than these, only the same words are the same."""


class Guard:
    """Knows the texts that must not be taught."""

    def __init__(self, texts: Collection[str]) -> None:
        self._words = [words for text in texts if (words := content(text))]
        self._pairs = [pairs for text in texts if (pairs := bigrams(text))]

    def lets(self, turns: Sequence[tuple[str, str]]) -> bool:
        """Whether no turn, with its answer, holds all that a barred text says, and no barred text
        holds all that a turn asks."""
        return not any(self._bars(asked, replied) for asked, replied in turns)

    def _bars(self, asked: str, replied: str) -> bool:
        if self._pairs and (pairs := bigrams(asked)):
            both = pairs | bigrams(replied)
            for barred in self._pairs:
                if len(barred & both) >= _SHARE * len(barred):
                    return True
                if len(barred & pairs) >= _SHARE * len(pairs):
                    return True
        words = content(asked)
        turn = words | content(replied)
        return any(
            barred == words
            or (len(barred) >= _FEW and barred <= turn)
            or (len(words) >= _FEW and words <= barred)
            for barred in self._words
        )


def content(text: str) -> frozenset[str]:
    """Its words that say something, numbers spelt out; none of a Chinese text."""
    spelt = re.sub(r"\d{1,6}", lambda found: f" {say(int(found[0]))} ", text.lower())
    return frozenset(re.findall(r"[a-zà-ÿ']+", spelt.replace("’", "'"))) - _STOP


def bigrams(text: str) -> frozenset[str]:
    """Its pairs of Chinese characters side by side."""
    characters = "".join(re.findall(r"[\u4e00-\u9fff]", text))
    return frozenset(map("".join, pairwise(characters)))
