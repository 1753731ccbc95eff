"""The reply's own sound, out of the microphone's: how much of a frame it is, and the rest.

Callers without headphones, or whose client cancels no echo, send the assistant its own voice
back. What plays is known (`speech/farend.py`), so first its lag is found (`speech/lag.py`), then
the way it takes through the room is learnt (`speech/echopath.py`). Taking it away leaves a
caller who speaks over it; what is left of echo alone is 15 to 20 dB weaker, which a voice
activity model still hears as speech, so the gate also says how much was echo.

Pure. While nothing plays a frame costs 6 µs of one core; else half a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speech.echopath import BINS, HOP, TAPS, EchoPath, Spectrum
from speech.farend import FarEnd
from speech.interfaces import FRAME, RATE, Audio
from speech.lag import LATEST, LagFinder

LATE = HOP
"""Samples by which the separated audio comes after the microphone's, whatever plays: 16 ms."""
ECHO = 0.75
"""A frame of this much echo or more has no caller in it who could be told from the echo. Measured
with Silero: a caller as loud as the echo stays under it, echo alone above."""

_WINDOW = np.sqrt(np.hanning(FRAME + 1)[:-1]).astype(np.float32)
"""Times itself, at hops of half its length, it adds up to one."""
_BAND = slice(200 * FRAME // RATE, 3400 * FRAME // RATE + 1)
"""Bins of 200 to 3400 Hz: what small loudspeakers and telephones carry."""
_MASKED = 0.1
"""What is 10 dB weaker than the latest echo is taken for its reverberation."""
_HOLD = 0.93
"""What of the latest echo's power is left a frame later: -10 dB in a second."""
_SEARCH = 6
"""Frames of sound while the assistant speaks in which no echo was found until there is none:
the caller wears headphones. An echo is found within 2 to 7."""
_SILENT = 25
"""Frames in which the assistant speaks and the microphone is silent until there is none."""
_AUDIBLE = FRAME * 1e-5
"""Energy of a frame of -50 dBFS."""
_STANDS_OUT = 4.0
"""Times the energy of the background: a noisy room is no sound to find an echo in."""
_BACKGROUND_RISE = 1.02
"""A frame; the quietest frame sets the background, and it rises by 2.7 dB a second."""


@dataclass(frozen=True, slots=True)
class Separated:
    """A frame after the echo was taken from it."""

    audio: Audio
    """Shape (FRAME,), LATE samples after the frame: it begins with the end of the one before."""
    echo: float
    """How much of the last two frames was the loudspeaker's, in [0, 1]; 0 where nothing plays."""


class EchoGate:
    """One call's."""

    def __init__(self, far: FarEnd) -> None:
        self._far = far
        self._finder = LagFinder(far)
        self._path = EchoPath()
        self._lag: int | None = None
        self._began = 0
        """The stretch of the far end for which the path is being learnt."""
        self._spectra = np.zeros((TAPS, BINS), np.complex64)
        """Of the far end as the microphone hears it now, the latest first."""
        self._before = np.zeros(HOP, np.float32)
        self._removed = np.zeros(HOP, np.float32)
        """Second half of the echo taken from the last window."""
        self._powers = np.zeros(3)
        self._loudest = 0.0
        self._searched = self._silent = 0
        self._background = np.inf

    def push(self, frame: Audio, at: int) -> Separated:
        """The microphone's frame of shape (FRAME,) that begins at its sample `at`."""
        mic = np.concatenate((self._before, frame))
        self._before = frame[-HOP:].copy()
        sound = self._stands_out(frame)
        out = mic[:FRAME].copy()
        if at < self._far.end + LATEST + TAPS * HOP:
            self._finder.push(frame, at)
            self._align(at)
            if self._lag is not None:
                return Separated(out, self._clean(mic, at - HOP, out))
            self._searched += sound
            self._silent += not sound
        out[:HOP] -= self._removed
        self._removed = np.zeros(HOP, np.float32)
        searching = self._searched < _SEARCH and self._silent < _SILENT
        unknown = self._lag is None and at < self._far.end + LATEST
        return Separated(out, float(unknown and searching))

    def _stands_out(self, frame: Audio) -> bool:
        energy = float(np.dot(frame, frame))
        self._background = min(energy, self._background * _BACKGROUND_RISE)
        return energy > max(_AUDIBLE, _STANDS_OUT * self._background)

    def _align(self, at: int) -> None:
        """To the lag as known by now. A new one is a new path; so may a new stretch be."""
        if self._finder.lag != self._lag:
            self._lag = self._finder.lag
            self._path.forget()
            for tap in range(TAPS):
                self._spectra[tap] = self._far_spectrum(at - (tap + 2) * HOP)
        if self._far.began != self._began and at >= self._far.began:
            self._began = self._far.began
            self._path.doubt()

    def _far_spectrum(self, at: int) -> Spectrum:
        """Of what arrives in the window at `at`, and a hop ahead, as an echo spreads both ways."""
        start = at - (self._lag or 0) + HOP
        return _spectrum(self._far.slice(start, start + FRAME))

    def _clean(self, mic: Audio, at: int, out: Audio) -> float:
        """Take the echo in `mic`, FRAME + HOP samples from `at` on, from `out`; how much it was."""
        powers = np.zeros(3)
        for start in (0, HOP):
            self._spectra[1:] = self._spectra[:-1].copy()
            self._spectra[0] = self._far_spectrum(at + start)
            spectrum = _spectrum(mic[start : start + FRAME])
            split = self._path.step(self._spectra, spectrum)
            removed = np.fft.irfft(spectrum - split.near).astype(np.float32) * _WINDOW
            out[start : start + HOP] -= self._removed + removed[:HOP]
            self._removed = removed[HOP:]
            powers += [_in_band(spectrum), _in_band(split.near), _in_band(split.echo)]
        whole, near, echo = self._powers + powers
        self._powers = powers
        self._loudest = max(_HOLD * self._loudest, echo)
        return float(np.clip(1 - near / max(whole, _MASKED * self._loudest, 1e-9), 0, 1))


def _spectrum(audio: Audio) -> Spectrum:
    return np.fft.rfft(audio * _WINDOW).astype(np.complex64, copy=False)


def _in_band(spectrum: Spectrum) -> float:
    band = spectrum[_BAND]
    return float(np.vdot(band, band).real)
