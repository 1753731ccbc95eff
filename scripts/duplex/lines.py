"""The callers' voices: lines spoken by Kokoro once, kept beside the models, paused on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assistant.clients.wav import RATE
from assistant.models import Catalogue, locate
from duplex.scenario import Script
from speech.interfaces import Audio, Pcm
from speech.tts.kokoro import KokoroSynthesizer

LEVEL = 0.08
"""RMS of every caller's speech while it lasts, full scale being 1: -22 dBFS."""
_MARGIN = RATE // 100
_FADE = RATE // 100
_PAUSE_CUT = (-3 * RATE // 100, 6 * RATE // 100)
"""Around the mark of a word's end: where a pause may begin."""
_CARRIER_CUT = (-11 * RATE // 100, 4 * RATE // 100)
"""The same before a carrier's comma, where the mark is late."""
_CARRIER = "{}, so that is how it was."
"""Kokoro garbles a word that stands alone; it is spoken in here and cut out."""
_SHORT = 2
"""Words up to which a line wants the carrier."""
_SPELT = {"Mm-hmm": "Umhum"}
"""What espeak would spell letter by letter."""
_AUDIBLE = 0.01
_WINDOW = RATE // 50


@dataclass(frozen=True, slots=True)
class Spoken:
    """A line as it is heard; it begins and ends with its speech, a hundredth of a second aside."""

    pcm: Pcm
    pauses: tuple[tuple[float, float], ...] = ()
    """(begin, end) of each, in seconds."""


def missing(wanted: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those (text, voice) that are not spoken yet."""
    return sorted({line for line in wanted if not _path(*line).exists()})


class Speaker:
    """Makes what is missing. Raises ModelError where Kokoro was not fetched."""

    def __init__(self) -> None:
        self._synthesizer = KokoroSynthesizer(locate("kokoro"), threads=2)

    def speak(self, text: str, voice: str) -> None:
        carried = len(text.split()) <= _SHORT
        bare = text.rstrip(".")
        bare = _SPELT.get(bare, bare)
        parts, chars, samples, length = [], [], [], 0
        for speech in self._synthesizer.synthesize(
            _CARRIER.format(bare) if carried else text, voice=voice
        ):
            parts.append(speech.pcm)
            chars += [mark.chars for mark in speech.marks]
            samples += [length + mark.samples for mark in speech.marks]
            length += len(speech.pcm)
        pcm = np.concatenate(parts)
        if carried:
            end = next(at for char, at in zip(chars, samples, strict=True) if char >= len(bare))
            pcm = pcm[: _quietest(pcm.astype(np.float32), end, _CARRIER_CUT)]
        path = _path(text, voice)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        with partial.open("wb") as file:
            np.savez(file, pcm=pcm, chars=chars, samples=samples)
        partial.replace(path)


def spoken(line: Script, voice: str) -> Spoken:
    """A line that was made before, at LEVEL, with its pauses."""
    with np.load(_path(line.text, voice)) as made:
        pcm, chars, samples = made["pcm"], made["chars"], made["samples"]
    audible = np.flatnonzero(np.abs(pcm.astype(np.float32)) > _AUDIBLE * 32768)
    first, last = max(0, audible[0] - _MARGIN), audible[-1] + _MARGIN
    speech = scaled(pcm[first:last].astype(np.float32), 0.0)
    cuts = [
        (_quietest(speech, int(samples[np.abs(chars - at).argmin()]) - first, _PAUSE_CUT), seconds)
        for at, seconds in line.pauses
    ]
    return _paused(speech, cuts)


def scaled(audio: Audio, level_db: float) -> Audio:
    """`audio`, shape (n,), at that level relative to the callers' speech; full scale 32768."""
    return audio * np.float32(LEVEL * 32768 * 10 ** (level_db / 20) / active_rms(audio))


def active_rms(audio: Audio) -> float:
    """RMS of the 20 ms windows that are within 30 dB of the loudest."""
    whole = audio[: len(audio) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    power = np.mean(np.square(whole, dtype=np.float64), axis=1)
    return float(np.sqrt(power[power > power.max() / 1000].mean()))


def as_pcm(audio: Audio) -> Pcm:
    return np.clip(audio, -32768, 32767).astype(np.int16)


def _quietest(speech: Audio, at: int, search: tuple[int, int]) -> int:
    """The sample near `at` around which 30 ms are the quietest."""
    begin = max(2 * _FADE, at + search[0])
    end = max(begin + 1, min(len(speech) - 2 * _FADE, at + search[1]))
    tried, half = range(begin, end, _FADE // 10), 3 * _FADE // 2
    return min(tried, key=lambda n: float(np.square(speech[n - half : n + half]).sum()))


def _paused(speech: Audio, cuts: list[tuple[int, float]]) -> Spoken:
    fade = np.linspace(0, 1, _FADE, dtype=np.float32)
    parts, pauses, begin, length = [], [], 0, 0
    for cut, seconds in [*cuts, (len(speech), 0.0)]:
        part = speech[begin:cut].copy()
        if begin:
            part[:_FADE] *= fade
        if seconds:
            part[-_FADE:] *= fade[::-1]
        silence = np.zeros(round(seconds * RATE), np.float32)
        parts += [part, silence]
        length += len(part) + len(silence)
        if seconds:
            pauses.append(((length - len(silence)) / RATE, length / RATE))
        begin = cut
    return Spoken(as_pcm(np.concatenate(parts)), tuple(pauses))


def _path(text: str, voice: str) -> Path:
    catalogue = Catalogue.load()
    model = catalogue["kokoro"].files[0].sha256
    recipe = _CARRIER if len(text.split()) <= _SHORT else ""
    name = hashlib.sha256(f"{model} {voice} {text} {recipe}".strip().encode()).hexdigest()[:20]
    return catalogue.root / "callers" / f"{name}.npz"
