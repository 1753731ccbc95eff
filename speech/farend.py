"""What the loudspeaker plays, on the microphone's own timeline."""

from __future__ import annotations

import numpy as np

from speech.interfaces import RATE, Audio

_KEEP = 4 * RATE
"""Samples held, of the past and of what is still to play."""
_JITTER = RATE * 40 // 1000
"""A write nearer than this to the end of the one before it goes on where that one ended: the
clock that says when is jittery, the loudspeaker is not."""


class FarEnd:
    """One call's loudspeaker at RATE, addressed by the microphone's count of samples.

    Holds the last 4 s up to `end`; memory does not grow with the call."""

    def __init__(self) -> None:
        self._ring = np.zeros(_KEEP, np.float32)
        self.end = -_KEEP
        """Nothing is known to play from this sample on; long ago before anything has played."""
        self._flows = False
        self.began = 0
        """Where the latest stretch without a break began. Within one, the true delay stays; from
        one to the next it may move by as much as the clock jitters."""

    def play(self, pcm: Audio, at: int) -> None:
        """These samples, shape (n,), begin to play when the microphone has taken sample `at`.

        A write that lies `_JITTER` or more after the end of the last one leaves silence between; as
        much before it, replaces what would have played from `at` on."""
        if not self._flows or abs(at - self.end) >= _JITTER:
            self.cut(at)
            self._write(np.zeros(min(at - self.end, _KEEP), np.float32), at)
            self.began, self._flows = at, True
        self._write(pcm, self.end + len(pcm))

    def cut(self, at: int) -> None:
        """What would play from sample `at` on does not; what plays next is a new stretch."""
        self.end = min(self.end, at)
        self._flows = False

    def slice(self, start: int, end: int) -> Audio:
        """A copy of [start, end), shape (end - start,): zeros where nothing plays or where it is
        too long ago."""
        out = np.zeros(end - start, np.float32)
        first, last = max(start, self.end - _KEEP, 0), min(end, self.end)
        if first < last:
            out[first - start : last - start] = self._ring.take(np.arange(first, last), mode="wrap")
        return out

    def _write(self, pcm: Audio, end: int) -> None:
        """`pcm` ends at sample `end`; only the newest of it has room."""
        pcm = pcm[-_KEEP:]
        self._ring[np.arange(end - len(pcm), end) % _KEEP] = pcm
        self.end = end
