"""Clean speech as a microphone or a telephone gives it."""

from __future__ import annotations

import numpy as np

from speech.audio import Resampler, to_float, to_pcm16, ulaw_decode, ulaw_encode
from speech.interfaces import RATE, Audio


def faded(audio: Audio) -> Audio:
    """With 10 ms of fade at both ends, as a cut inside a word's neighbour would click."""
    ramp = np.linspace(0, 1, RATE // 100, dtype=np.float32)
    audio = audio.copy()
    audio[: len(ramp)] *= ramp
    audio[-len(ramp) :] *= ramp[::-1]
    return audio


def silent(seconds: float) -> Audio:
    return np.zeros(int(seconds * RATE), np.float32)


def roughened(audio: Audio, random: np.random.Generator) -> Audio:
    """As a microphone or a telephone gives it: a room, noise, another level, G.711."""
    if random.random() < 0.3:
        audio = _in_room(audio, random)
    peak = float(np.abs(audio).max(initial=1e-6))
    audio = audio * np.float32(10 ** (random.uniform(-24, -1) / 20) / peak)
    if random.random() < 0.7:
        audio = audio + _noise(audio, random)
    if random.random() < 0.25:
        down, up = Resampler(RATE, 8000), Resampler(8000, RATE)
        narrow = to_pcm16(np.concatenate([down.push(audio), down.flush()]))
        wide = to_float(ulaw_decode(ulaw_encode(narrow)))
        audio = np.concatenate([up.push(wide), up.flush()])
    return np.clip(audio, -1, 1).astype(np.float32)


def _in_room(audio: Audio, random: np.random.Generator) -> Audio:
    """Decaying noise as the room's response, 0.15 to 0.35 s to -60 dB."""
    decay = random.uniform(0.15, 0.35)
    times = np.arange(int(decay * RATE)) / RATE
    response = random.normal(0, 1, len(times)) * 10 ** (-3 * times / decay)
    response *= random.uniform(0.1, 0.4) / np.sqrt(np.square(response).sum())
    response[0] = 1
    size = 2 ** int(np.ceil(np.log2(len(audio) + len(response))))
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)
    return wet[: len(audio)].astype(np.float32)


def _noise(audio: Audio, random: np.random.Generator) -> Audio:
    """White to brown, 12 to 40 dB under the speech."""
    spectrum = np.fft.rfft(random.normal(0, 1, len(audio)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** random.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(audio))
    loud = np.sqrt(np.square(audio[np.abs(audio) > 0.02 * np.abs(audio).max()]).mean())
    noise *= loud * 10 ** (-random.uniform(12, 40) / 20) / (noise.std() + 1e-12)
    return noise.astype(np.float32)
