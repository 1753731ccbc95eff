"""Whisper's log-mel spectrogram, as both Whisper and Smart Turn read it.

The definition is that of Radford et al. 2022, section 2.2: 80 Slaney mel bands, windows of 25 ms,
a step of 10 ms. The filter bank is faster-whisper's; the rest is laid out for short audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

if TYPE_CHECKING:
    from speech.interfaces import Audio

HOP = 160
"""Samples between two spectrogram frames."""
_WINDOW = 400
_HANN = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
_MELS: Audio = FeatureExtractor.get_mel_filters(16_000, _WINDOW, 80).astype(np.float32)


def log_mel(audio: Audio) -> Audio:
    """Shape (n,) at RATE, n at least 201, to shape (80, n // HOP), about [-1, 1.5]."""
    padded = np.pad(audio, _WINDOW // 2, mode="reflect")
    frames = len(audio) // HOP
    step = padded.itemsize
    rows = np.ndarray((frames, _WINDOW), np.float32, padded, 0, (HOP * step, step))
    spectrum = np.fft.rfft(rows * _HANN, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = np.log10(np.maximum(_MELS @ power.T, 1e-10))
    scaled: Audio = ((np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0).astype(np.float32)
    return scaled
