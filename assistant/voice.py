"""Clauses to audio in the client's format: synthesis, resampling, encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from assistant.wire.settings import ResponseSettings
from speech.audio import DECODE, alaw_encode, ulaw_encode
from speech.interfaces import Mark, Pcm, Speech

if TYPE_CHECKING:
    from assistant.engines import Engines


class Mouth:
    """One reply's voice: a synthesiser, a voice of it, and the client's audio format."""

    def __init__(self, engines: Engines, settings: ResponseSettings) -> None:
        self._engines, self._settings = engines, settings
        self.rate = settings.output.rate

    async def say(self, clause: str) -> Speech:
        """The clause as speech at self.rate; empty where nothing in it can be said.

        Raises SpeechError."""
        return await self._engines.run("tts", lambda: self._synthesize(clause))

    def encode(self, pcm: Pcm) -> bytes:
        match self._settings.output.name:
            case "audio/pcmu":
                return ulaw_encode(pcm)
            case "audio/pcma":
                return alaw_encode(pcm)
            case _:
                return pcm.astype("<i2", copy=False).tobytes()

    def decode(self, data: bytes) -> Pcm:
        """What encode() made, as samples again."""
        return DECODE[self._settings.output.name](data)

    def _synthesize(self, clause: str) -> Speech:
        synthesizer = self._engines.synthesizer
        voice, speed = self._settings.voice, self._settings.speed
        pieces = list(synthesizer.synthesize(clause, voice=voice, speed=speed))
        if not pieces:
            return Speech(np.empty(0, np.int16))
        pcm = np.concatenate([piece.pcm for piece in pieces])
        marks, samples = [], 0
        for piece in pieces:
            # A mark's characters are those of the whole clause, its samples the piece's own.
            marks += [Mark(mark.chars, samples + mark.samples) for mark in piece.marks]
            samples += len(piece.pcm)
        return _resampled(Speech(pcm, tuple(marks)), synthesizer.sample_rate, self.rate)


def _resampled(speech: Speech, rate: int, to: int) -> Speech:
    if rate == to or not len(speech.pcm):
        return speech
    pcm: Pcm = soxr.resample(speech.pcm, rate, to, quality="HQ")
    marks = tuple(Mark(m.chars, m.samples * to // rate) for m in speech.marks)
    return Speech(pcm, marks)
