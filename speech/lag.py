"""How long after the loudspeaker's sample the microphone takes its echo."""

from __future__ import annotations

import numpy as np

from speech.farend import FarEnd
from speech.interfaces import FRAME, Audio

_BLOCKS = 20
EARLIEST = -FRAME
"""Least lag looked for, in samples: the clock that said when may be late by a little."""
LATEST = EARLIEST + _BLOCKS * FRAME
"""Lags looked for are under this: 608 ms."""
_MEMORY = np.float32(0.93)
"""What of the correlation outlives a frame: it looks back on about 0.45 s."""
_FLOORS = np.array([[1e-2], [1e-2]], np.float32)
"""Power of a bin, loudspeaker's and microphone's, under which it tells nothing."""
_HEIGHT = 0.035
"""A peak lower than this is chance; that of an echo in a small room is 0.1 or more."""
_CLEAR = 9.0
"""So is one of fewer times the root mean square over all lags."""
_BETTER = 1.3
"""By how much a new lag's peak must top that of the lag in use."""
_SAME = 32
"""Samples within which two lags are the same: the sound of a room comes by more than one way."""
_WINDOW = np.hanning(FRAME).astype(np.float32)
"""Without it the frames' edges correlate."""


class LagFinder:
    """One call's lag, by generalised cross-correlation (Knapp and Carter, 1976) whitened by both
    smoothed spectra, over blocks of FRAME lags. It takes about 100 ms of audible echo."""

    def __init__(self, far: FarEnd) -> None:
        self._far = far
        self._spectra = np.zeros((_BLOCKS, FRAME + 1), np.complex64)
        self._cross = np.zeros_like(self._spectra)
        self._power = np.zeros((2, FRAME + 1), np.float32)
        self._next = 0
        self.lag: int | None = None
        """Samples; None until an echo was found."""

    def push(self, frame: Audio, at: int) -> None:
        """One frame of shape (FRAME,) that begins at sample `at`."""
        self._play(at)
        mic = np.fft.rfft(frame * _WINDOW, 2 * FRAME)
        self._cross *= _MEMORY
        self._cross += self._spectra * np.conj(mic)
        self._power *= _MEMORY
        spectra = self._spectra
        self._power[0] += (spectra.real**2 + spectra.imag**2).max(axis=0)
        self._power[1] += mic.real**2 + mic.imag**2
        self._find()

    def _play(self, at: int) -> None:
        """Block k of the spectra: what may be in the frame with lags from EARLIEST + k * FRAME."""
        fresh = 1 if at == self._next else _BLOCKS
        self._next = at + FRAME
        self._spectra[fresh:] = self._spectra[:-fresh].copy()
        for k in range(fresh):
            start = at - EARLIEST - (k + 1) * FRAME
            self._spectra[k] = np.fft.rfft(self._far.slice(start, start + 2 * FRAME))

    def _find(self) -> None:
        loudspeaker, microphone = self._power + _FLOORS
        white = self._cross / np.sqrt(loudspeaker * microphone)
        heights = np.abs(np.fft.irfft(white, axis=1)[:, FRAME:0:-1].reshape(-1))
        best = int(heights.argmax())
        rms = float(np.sqrt(np.mean(heights**2)))
        if heights[best] < max(_HEIGHT, _CLEAR * rms):
            return
        if self.lag is not None:
            now = self.lag - EARLIEST
            around = heights[max(0, now - _SAME) : now + _SAME + 1]
            if heights[best] < _BETTER * around.max():
                return
        self.lag = best + EARLIEST
