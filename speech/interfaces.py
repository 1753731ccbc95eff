"""What the speech stages promise each other. Audio is mono float32 in [-1, 1] unless said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Sample rate, in Hz, of all audio on its way from the caller to a model."""
FRAME = 512
"""Samples in one voice-activity frame: 32 ms at RATE."""

Audio = NDArray[np.float32]
Pcm = NDArray[np.int16]


class SpeechError(Exception):
    """A speech engine could not do its work; the message names what it was given."""


class VadStream(Protocol):
    """Voice activity of one call; keeps the model's state between frames."""

    def probability(self, frame: Audio) -> float:
        """P(speech) of one frame of shape (FRAME,) at RATE."""


class Vad(Protocol):
    def open(self) -> VadStream:
        """A stream for a new call."""


class Endpointer(Protocol):
    def completeness(self, audio: Audio) -> float:
        """P(the turn is over) from the caller's last seconds up to the end of speech, shape (n,)
        at RATE."""


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: float
    """Seconds from the start of the decoded audio."""
    end: float


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    """Empty when nothing was said."""
    language: str = "en"
    """ISO 639-1 code that the recogniser used or detected."""
    confidence: float = 1.0
    """exp(mean log probability of the tokens), in [0, 1]."""
    words: tuple[Word, ...] = ()
    """Filled only where the engine was asked for word times."""


class Recognizer(Protocol):
    def transcribe(
        self, audio: Audio, *, language: str = "", context: str = "", word_times: bool = False
    ) -> Transcript:
        """The words of `audio`, shape (n,) at RATE, at most 30 s.

        `language` is an ISO 639-1 code, or empty to detect it. `context` is text that came
        before, used to bias spelling. Raises SpeechError."""


@dataclass(frozen=True, slots=True)
class Voice:
    name: str
    language: str
    """BCP 47: en-US, en-GB, zh-CN."""
    gender: str
    """female or male."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in the audio a stretch of the text ends."""

    chars: int
    """Characters of the text spoken by then."""
    samples: int
    """Samples of the audio played by then."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of synthesised speech."""

    pcm: Pcm
    """Shape (n,), at the synthesiser's sample rate."""
    marks: tuple[Mark, ...] = ()
    """Ends of words where the engine knows them, ascending; empty where it does not. Characters
    count over the whole text given, samples within this piece."""


class Synthesizer(Protocol):
    sample_rate: int
    """Hz of every Speech it makes."""
    voices: tuple[Voice, ...]

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        """Speak `text` in steps; the caller may stop between steps.

        An unknown or empty `voice` is mapped to the default for the text's language; `speed`
        1.0 is the voice's own. Text without anything speakable yields nothing.
        Raises SpeechError."""
