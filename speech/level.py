"""How loud this caller is, and so who is not this caller.

A television, babble or a second person stands farther from the microphone and is 12 dB or more
weaker than the caller. A stretch's loudness is that of its louder half, which pauses do not
lower, less the power of the noise. Pure; its only clock is the audio it is given.

Nobody is locked out for ever: every second of speech that was rejected takes `_YIELD` dB off the
level, down to what was heard. A caller who walked away, 20 dB weaker, is 12 dB under it after
16 s of speaking, in as many tries as they like, and each turn then accepted brings it closer. A
television that talks for as long gains the same, until the caller's next turn takes it all back.
Who was rejected before any turn was accepted is thought to be the caller sooner: at each try the
level that is presumed comes `_STEP` closer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.interfaces import FRAME, RATE, Audio

_STEP = 3.0
"""dB by which one turn moves the level at most, like a running median: a shout or a mumble,
or a television that was taken for the caller once, does little."""
_YIELD = 0.5
"""dB a second of rejected speech."""
_PRESUMED = -25.0
"""dBFS of a caller who has not spoken yet: telephones and browsers bring voices to about this."""
_UNSURE = 9.0
"""dB that a voice is at most said to lie under a level that is only presumed."""
_SAME = 6.0
"""dB within which a turn is the known caller's, however much was yielded."""
_SILENT = 1e-9
"""Power of what is no sound at all: -90 dBFS."""
_FLOOR_FOLLOWS = 0.3
"""Of the way to a stretch's noise, in dB, that the floor goes."""


class CallerLevel:
    """One call's caller. Levels are dBFS of the root mean square: a full-scale sine has -3."""

    def __init__(self) -> None:
        self._usual: float | None = None
        self._presumed = _PRESUMED
        self._yielded = 0.0
        self._floor: float | None = None

    @property
    def level(self) -> float | None:
        """As loud as the caller is now taken to be; None before their first turn."""
        return None if self._usual is None else self._usual - self._yielded

    @property
    def floor(self) -> float | None:
        """The noise between the words; None before anything was heard."""
        return self._floor

    def accept(self, audio: Audio) -> None:
        """This was the caller's: a committed turn, shape (n,) at RATE."""
        loudness = self._listen(audio)
        if loudness is None:
            return
        if self._usual is None:
            self._usual = loudness
        if loudness > self._usual - _SAME:
            self._yielded = 0.0
        self._usual += max(-_STEP, min(_STEP, loudness - self._usual))
        self._yielded = min(self._yielded, max(0.0, self._usual - loudness))

    def reject(self, audio: Audio) -> None:
        """This was speech, shape (n,) at RATE, and taken for somebody else's."""
        loudness = self._listen(audio)
        if loudness is None:
            return
        if self._usual is None:
            self._presumed = min(self._presumed, max(loudness, self._presumed - _STEP))
            return
        more = min(_YIELD * len(audio) / RATE, self._usual - self._yielded - loudness)
        self._yielded += max(0.0, more)

    def margin(self, audio: Audio) -> float:
        """By how many dB this speech, shape (n,) at RATE, lies below the caller's level, negative
        above it; between 0 and `_UNSURE` while the caller is unknown, and 0 for less than a
        frame."""
        powers = _powers(audio)
        if not len(powers):
            return 0.0
        if self.level is None:
            return min(max(self._presumed - self._loudness(powers), 0.0), _UNSURE)
        return self.level - self._loudness(powers)

    def _listen(self, audio: Audio) -> float | None:
        """Loudness of a stretch, from which the noise is learnt; None for less than a frame."""
        powers = _powers(audio)
        if not len(powers):
            return None
        quiet = _decibels(float(np.quantile(powers, 0.1)))
        before = quiet if self._floor is None else self._floor
        self._floor = before + _FLOOR_FOLLOWS * (quiet - before)
        return self._loudness(powers)

    def _loudness(self, powers: NDArray[np.float32]) -> float:
        noise = 0.0 if self._floor is None else 10 ** (self._floor / 10)
        louder = powers[powers >= np.median(powers)]
        return _decibels(float(louder.mean()) - noise)


def _powers(audio: Audio) -> NDArray[np.float32]:
    """Mean square of each whole frame."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    return np.asarray(np.mean(frames**2, axis=1), np.float32)


def _decibels(power: float) -> float:
    return float(10 * np.log10(max(power, _SILENT)))
