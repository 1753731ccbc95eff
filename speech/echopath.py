"""From loudspeaker to microphone, learnt as the call goes on; what is left is the caller.

In each bin of a short-time spectrum the echo is a short filter over the loudspeaker's latest
spectra (a convolutive transfer function). A Kalman filter tracks it (Enzner and Vary,
"Frequency-domain adaptive Kalman filter for acoustic echo control", Signal Processing 86, 2006).
Its covariance says how far the estimate is to be trusted, from the first hop on: what an
unlearnt path might explain counts as echo, what a learnt one does not is the caller. While they
speak they are the noise, so that the filter does not learn from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech.interfaces import FRAME

HOP = FRAME // 2
BINS = HOP + 1
TAPS = 6
"""Hops that the filter spans: one before the direct sound, 80 ms after it."""

Spectrum = NDArray[np.complex64]
Power = NDArray[np.float32]

_PRIOR = np.array([1, 1, 1, 0.5, 0.25, 0.125], np.float32)
"""Power of an unlearnt path's taps: an echo as loud as the reply itself is possible."""
_KEEP = np.float32(0.99)
"""What of the path is the same a hop later; the rest is drift of clocks, hands, people."""
_STIR = np.float32(1e-3)
"""Power by which even a path that seems to be none may change: headphones come off."""
_MISFIT = np.float32(0.02)
"""Power, as a part of the microphone's, that no filter of this kind explains: -17 dB."""
_TAIL = np.float32(0.02)
"""Power of what the filter misses of an echo (reverberation, distortion), as a part of it."""
_MARGIN = np.float32(3.0)
"""The residual echo is taken for this many times its variance, as its power scatters."""
_LEAST = 0.03
"""Part of a bin that always passes, so that what is left sounds of something."""
_FLOOR = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Split:
    """One hop's spectrum taken apart; shapes (BINS,)."""

    near: Spectrum
    """Without the echo."""
    echo: Spectrum
    """As estimated before this hop."""


def _smooth(power: Power) -> Power:
    """Over three bins, as one bin of one hop says little."""
    out = power.copy()
    out[1:-1] = 0.25 * power[:-2] + 0.5 * power[1:-1] + 0.25 * power[2:]
    return out


def _power(spectrum: Spectrum) -> Power:
    power: Power = spectrum.real**2 + spectrum.imag**2
    return power


class EchoPath:
    """One call's path. Every BINS-long array is contiguous, so that numpy stays fast."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is known of the path."""
        self._path = np.zeros((TAPS, BINS), np.complex64)
        self.doubt()

    def doubt(self) -> None:
        """The path may be another by now, as after a break in what plays."""
        self._covariance = np.zeros((TAPS, TAPS, BINS), np.complex64)
        np.einsum("kkf->kf", self._covariance)[:] = _PRIOR[:, None]

    def step(self, far: Spectrum, mic: Spectrum) -> Split:
        """`far` has shape (TAPS, BINS), the latest spectrum first; `mic` (BINS,)."""
        covariance = self._covariance
        covariance *= _KEEP
        np.einsum("kkf->kf", covariance)[:] += (1 - _KEEP) * (_power(self._path) + _STIR)
        spread = (covariance * np.conj(far)).sum(axis=1)
        unsure = (far * spread).real.sum(axis=0)
        echo = (far * self._path).sum(axis=0)
        error = mic - echo
        unsure += _TAIL * _power(echo)

        left, expected = _smooth(_power(error)), _smooth(unsure)
        noise = np.maximum(left - expected, _MISFIT * _smooth(_power(mic)) + _FLOOR)
        gain = spread / (unsure + noise)
        self._path += gain * error
        covariance -= gain[:, None] * np.conj(spread)
        passing = np.clip(1 - _MARGIN * expected / (left + _FLOOR), _LEAST, 1)
        return Split(error * passing, echo)
