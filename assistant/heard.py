"""Which words of a reply were heard, given how many samples of it were played."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from assistant.clauses import CJK
from speech.interfaces import Mark

_TOKEN = re.compile(rf"[{CJK}][^\w\s]*|[^\s{CJK}]+")
"""A word with the marks around it; every CJK character is one."""
_IDEOGRAPH = re.compile(f"[{CJK}]")
_SHORT_PAUSE, _LONG_PAUSE = frozenset(",;:，、；：—–"), frozenset(".!?…。！？\n")


class HeardLedger:
    """The words of one reply beside its audio, clause by clause in the order of playing.

    A word counts as heard when half of its audio was played."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._chars = 0
        self._samples = 0
        self._thresholds = [0]
        self._ends = [0]

    @property
    def samples(self) -> int:
        """Samples of audio that belong to the whole text."""
        return self._samples

    @property
    def full_text(self) -> str:
        return "".join(self._parts)

    def say(self, text: str, samples: int, marks: Iterable[Mark] = ()) -> None:
        """The next clause takes `samples` samples. `marks` count from the clause's own start;
        what lies between two of them is divided by how long its letters take to say."""
        curve = _Curve(text, samples, marks)
        for token in _TOKEN.finditer(text):
            half = (curve.sample(token.start()) + curve.sample(_spoken_end(token))) / 2
            self._note(max(half, min(samples, 1)), token.end())
        self._note(samples, len(text))
        self._parts.append(text)
        self._chars += len(text)
        self._samples += samples

    def text(self, samples: int) -> str:
        """The whole words heard once `samples` samples were played."""
        last = bisect_right(self._thresholds, samples) - 1
        return self.full_text[: self._ends[last]] if last >= 0 else ""

    def _note(self, sample: float, chars: int) -> None:
        self._thresholds.append(max(self._thresholds[-1], self._samples + round(sample)))
        self._ends.append(self._chars + chars)


class _Curve:
    """Which sample of a clause each of its characters starts at."""

    def __init__(self, text: str, samples: int, marks: Iterable[Mark]) -> None:
        self._weights = [0.0, *accumulate(_weight(text, at) for at in range(len(text)))]
        self._anchors = [(0, 0)]
        for mark in marks:
            chars, sample = self._anchors[-1]
            if chars < mark.chars <= len(text) and sample <= mark.samples <= samples:
                self._anchors.append((mark.chars, mark.samples))
        self._anchors.append((len(text), samples))

    def sample(self, char: int) -> float:
        right = max(1, bisect_right(self._anchors, (char, -1)))
        (from_char, from_sample), (to_char, to_sample) = self._anchors[right - 1 : right + 1]
        span = self._weights[to_char] - self._weights[from_char]
        if not span:
            return to_sample if char >= to_char else from_sample
        part = (self._weights[char] - self._weights[from_char]) / span
        return from_sample + part * (to_sample - from_sample)


def _spoken_end(token: re.Match[str]) -> int:
    """Where the last letter of the token ends: the pause after it is not part of the word."""
    spoken = len(token[0])
    while spoken and not token[0][spoken - 1].isalnum():
        spoken -= 1
    return token.start() + (spoken or len(token[0]))


def _weight(text: str, at: int) -> float:
    """How long a character takes to say; an English letter takes 1, some 65 ms."""
    char = text[at]
    if _IDEOGRAPH.match(char):
        return 3.5
    if char.isdigit():
        return 4.0
    if char.isalpha():
        return 3.0 if "\uac00" <= char <= "\ud7a3" else 1.0
    inside = at + 1 < len(text) and text[at + 1].isalnum() and char.isascii()
    if char in _LONG_PAUSE:
        return 0.5 if inside else 5.0
    if char in _SHORT_PAUSE:
        return 0.5 if inside else 3.0
    return 5.0 if char in "%$€£¥&@+=" else 0.0
