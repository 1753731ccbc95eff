"""How the voice ends: low and drawn out at the end of a turn, level and clipped inside a sentence.

Pitch is the peak of the normalised autocorrelation, divided by that of the window (Boersma 1993,
"Accurate short-term analysis of the fundamental frequency"), from 70 to 400 Hz. That the end of
a turn is marked so is Duncan 1972, "Some signals and rules for taking speaking turns".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speech.interfaces import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speech.interfaces import Audio

    Floats = NDArray[np.floating]
    Indices = NDArray[np.intp]

WINDOW = 2.5
"""Seconds before the end of speech that are looked at."""
_HOP = RATE // 100
_FRAME = 4 * _HOP
_FFT = 1024
_SHORTEST, _LONGEST = RATE // 400, RATE // 70
"""Pitch periods, in samples."""
_CLEAR, _VOICED = 0.6, 0.55
"""Normalised autocorrelation of frames that tell the speaker's pitch, and of any voice."""
_AUDIBLE_DB, _SYLLABLE_DB = 25.0, 20.0
"""How far under the loudest sound the voice, and the peak of a syllable, may lie."""
_OCTAVE = 9.0
"""Semitones around the speaker's pitch in which it is looked for: twice a period fits as well."""
_HANN = np.hanning(_FRAME).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Prosody:
    """The end of a stretch of speech; all 0 where there is too little voice to tell."""

    drop: float = 0.0
    """Semitones by which the lowest pitch of the last 120 ms of voice lies under the median."""
    coda: float = 0.0
    """Seconds from the last syllable's peak to the end of sound."""


def prosody(audio: Audio) -> Prosody:
    """Of the last WINDOW seconds of `audio`, shape (n,) at RATE, which ends where speech does."""
    tail = audio[-int(WINDOW * RATE) :]
    count = (len(tail) - _FRAME) // _HOP + 1
    if count < 6:
        return Prosody()
    # Aligned to the end, which is what matters.
    tail = np.ascontiguousarray(tail[len(tail) - _FRAME - (count - 1) * _HOP :], np.float32)
    step = tail.itemsize
    frames = np.ndarray((count, _FRAME), np.float32, tail, 0, (_HOP * step, step))
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-10)
    loud = float(np.percentile(level, 95)) - _AUDIBLE_DB
    strength, semitones = _pitches(frames, level > loud)
    voiced = np.flatnonzero((strength > _VOICED) & (level > loud))
    if len(voiced) < 6:
        return Prosody()
    end = int(np.flatnonzero(level > loud)[-1])
    smooth = np.convolve(np.pad(level, 2, "edge"), np.full(5, 0.2), "valid")
    peaks = _peaks(smooth, loud + _AUDIBLE_DB - _SYLLABLE_DB)
    last = int(peaks[-1]) if peaks.size else end
    tune = semitones[voiced]
    return Prosody(
        drop=float(np.median(tune) - tune[-12:].min()),
        coda=max(0, end - last) * _HOP / RATE,
    )


def _pitches(frames: Audio, audible: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Of frames, shape (n, _FRAME): how periodic each is, about [0, 1], and its pitch in
    semitones above 1 Hz; both of shape (n,)."""
    centred = (frames - frames.mean(axis=1, keepdims=True)) * _HANN
    found = np.fft.irfft(np.abs(np.fft.rfft(centred, _FFT, axis=1)) ** 2, axis=1)[:, :_LONGEST]
    ideal = np.fft.irfft(np.abs(np.fft.rfft(_HANN, _FFT)) ** 2)[:_LONGEST]
    normal = (found / (found[:, :1] + 1e-9) / (ideal / ideal[0]))[:, _SHORTEST:]
    lags = np.arange(_SHORTEST, _LONGEST)
    pitch = 12 * np.log2(RATE / lags)
    rows = np.arange(len(frames))
    # A longer period must be clearly better than a part of it.
    best = (normal - 0.03 * np.log2(lags / _SHORTEST)).argmax(axis=1)
    clear = audible & (normal[rows, best] > _CLEAR)
    if clear.any():
        usual = np.median(pitch[best[clear]])
        best = np.where(np.abs(pitch - usual) < _OCTAVE, normal, -1).argmax(axis=1)
    return normal[rows, best], pitch[best]


def _peaks(level: Floats, least: float) -> Indices:
    """Frames that are the loudest of the 50 ms around them, and louder than `least`."""
    padded = np.pad(level, 5, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 11).max(axis=1)
    # What still rises at the very end has no peak.
    return np.flatnonzero((level >= around)[:-2] & (level > least)[:-2])
