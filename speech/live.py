"""The words of one caller turn while it is still being spoken.

The session decodes the open segment again and again; this decides which of its words will
never change: those that two successive decodes agree on (LocalAgreement-2, Macháček et al.
2023), but never the last, which may be half said. Long turns are closed piece by piece,
because a recogniser takes 30 s at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from speech.interfaces import RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speech.interfaces import Audio, Transcript

_CLOSE_AT_PAUSE = 10 * RATE
_CLOSE_ANYWAY = 25 * RATE

_UNSPACED = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
"""Scripts written without spaces: CJK punctuation, kana, Han, full-width forms."""
_TOKEN = re.compile(rf"(\s*)([{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """A word with its punctuation, or one character of an unspaced script with its own."""
    key: str
    """What it is compared by: no case, no punctuation."""
    spaced: bool
    """Whether the recogniser put a space in front."""


def _tokens(text: str) -> list[_Token]:
    made: list[_Token] = []
    for space, piece in _TOKEN.findall(text):
        key = "".join(filter(str.isalnum, piece.casefold()))
        if key or not made:
            made.append(_Token(piece, key, bool(space)))
        else:
            # A lone dash or full stop belongs to the word before it.
            last = made[-1]
            made[-1] = _Token(last.text + (" " if space else "") + piece, last.key, last.spaced)
    return [token for token in made if token.key]


def _joined(left: str, tokens: Sequence[_Token], *, begins: bool) -> str:
    """`tokens` as they follow `left`; `begins` when the first of them began its transcript."""
    text = left
    for number, token in enumerate(tokens):
        touching = bool(_IS_UNSPACED.match(text[-1:]) and _IS_UNSPACED.match(token.text))
        spaced = token.spaced or (begins and number == 0)
        text += " " * (spaced and not touching and bool(text)) + token.text
    return text[len(left) :]


def _keys(tokens: Sequence[_Token]) -> list[str]:
    return [token.key for token in tokens]


class LiveTranscript:
    """One caller turn. Stable text is only ever added to."""

    def __init__(self, start: int) -> None:
        self.start = start
        """First sample, at RATE since the call began, of the segment that is still open."""
        self.stable = ""
        """The text so far that will not change."""
        self.before = ""
        """The text of what was said before `start`: context for the recogniser."""
        self._confidence = 1.0
        """Of the last words in it."""
        self._open: list[_Token] = []
        """Stable words of the open segment."""
        self._carried: list[_Token] = []
        """Stable words that were said after the cut at which this segment began."""
        self._pending: list[_Token] = []
        """What the last decode had beyond the stable words."""

    def partial(self, transcript: Transcript) -> str:
        """A decode of [start, now): the words that it makes stable, with their leading space.

        Stable before, plus what is returned, is stable after."""
        words = self._words(transcript)
        covered = self._align(words)[1]
        beyond = words[covered:]
        same = takewhile(
            lambda pair: pair[0].key == pair[1].key, zip(beyond[:-1], self._pending, strict=False)
        )
        agreed = [word for word, _ in same]
        self._pending = beyond[len(agreed) :]
        self._open += agreed
        return self._add(agreed, begins=covered == 0)

    @property
    def likely(self) -> str:
        """`stable` and what the last decode heard beyond it, which may still change."""
        return self.stable + _joined(self.stable, self._pending, begins=not self._open)

    def must_close(self, now: int, *, paused: bool) -> bool:
        """Whether the open segment [start, now) is long enough to be closed for good."""
        length = now - self.start
        return length >= _CLOSE_ANYWAY or (paused and length >= _CLOSE_AT_PAUSE)

    def close(self, transcript: Transcript, end: int) -> str:
        """The last decode of [start, end): fixed from here on; gives the words that it adds.

        Stable words that this decode ends before, as it must when `end` lies before audio already
        heard, are expected at the beginning of the next segment and not taken twice."""
        words = self._words(transcript)
        known, covered = self._align(words)
        self._carried = self._open[known:]
        self._open, self._pending = [], []
        self.start = end
        added = self._add(words[covered:], begins=covered == 0)
        if words:
            self._confidence = transcript.confidence
        self.before = self.stable
        return added

    def text(self, final: Transcript) -> str:
        """The whole turn, given the final decode of [start, its end); begins with `stable`."""
        words = self._words(final)
        covered = self._align(words)[1]
        return self.stable + _joined(self.stable, words[covered:], begins=covered == 0)

    def confidence(self, final: Transcript) -> float:
        """Of text(final): an end without words says nothing about the segments before it."""
        return final.confidence if final.text or not self.before else self._confidence

    def _add(self, words: list[_Token], *, begins: bool) -> str:
        added = _joined(self.stable, words, begins=begins)
        self.stable += added
        return added

    def _words(self, transcript: Transcript) -> list[_Token]:
        """Words of a decode of the open segment, less those carried over the cut before it."""
        words = _tokens(transcript.text)
        for count in range(min(len(self._carried), len(words)), 0, -1):
            if _keys(words[:count]) == _keys(self._carried[-count:]):
                return words[count:]
        return words

    def _align(self, words: list[_Token]) -> tuple[int, int]:
        """How many stable words of the segment `words` reaches, and how many of `words` they are.

        Where a decode has other words than the stable ones, the stable ones stand and as many
        of the others are passed over."""
        stable, found = _keys(self._open), _keys(words)
        count = len(stable)
        if stable == found[:count]:
            return count, count
        matcher = SequenceMatcher(a=stable, b=found, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if i2 < count or i1 == i2:
                continue
            if tag == "delete":
                return (i1 if j1 == len(found) else count), j1
            return count, (j2 if tag == "equal" else min(j2, j1 + i2 - i1))
        return count, 0


def quietest(audio: Audio) -> int:
    """The offset at which `audio`, shape (n,) at RATE, is best cut: amid the quietest 30 ms of its
    last 2 s. All of it when it is shorter than that."""
    window, step = RATE * 30 // 1000, RATE // 100
    first = max(0, len(audio) - 2 * RATE)
    tail = audio[first:]
    if len(tail) < window:
        return len(audio)
    energy = np.concatenate(([0.0], np.cumsum(np.square(tail, dtype=np.float64))))
    starts = np.arange(0, len(tail) - window + 1, step)
    return first + int(starts[np.argmin(energy[starts + window] - energy[starts])]) + window // 2
