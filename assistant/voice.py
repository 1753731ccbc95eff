"""Clauses to audio in the client's format: synthesis, resampling, encoding."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from functools import partial
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

    async def say(self, clause: str) -> AsyncGenerator[tuple[str, Speech]]:
        """The clause as speech at self.rate, in steps, each with the part of the text that it
        says; together all of the text, even where nothing in it can be said.

        Raises SpeechError."""
        synthesizer, settings = self._engines.synthesizer, self._settings
        pieces = synthesizer.synthesize(clause, voice=settings.voice, speed=settings.speed)
        stream = _Stream(synthesizer.sample_rate, self.rate)
        said = 0
        while piece := await self._engines.run("tts", partial(next, pieces, None)):
            upto = piece.marks[-1].chars if piece.marks else len(clause)
            # A mark's characters are those of the whole clause, its samples the piece's own.
            marks = [Mark(mark.chars - said, mark.samples) for mark in piece.marks]
            yield clause[said:upto], stream.push(piece.pcm, marks)
            said = upto
        yield clause[said:], stream.flush()

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


class _Stream:
    """One clause's samples on their way from `rate` Hz to another."""

    def __init__(self, rate: int, to: int) -> None:
        self._factor = to / rate
        self._resampler = soxr.ResampleStream(rate, to, 1, "int16", quality="HQ")
        self._taken = self._given = 0

    def push(self, pcm: Pcm, marks: Iterable[Mark]) -> Speech:
        """The next samples, shape (n,), as far as they are ready: the last 35 ms of them are
        not, and a mark there is moved to where these end."""
        begin = self._taken * self._factor - self._given
        self._taken += len(pcm)
        ready = self._resampler.resample_chunk(pcm)
        self._given += len(ready)
        moved = (
            Mark(mark.chars, min(round(begin + mark.samples * self._factor), len(ready)))
            for mark in marks
        )
        return Speech(ready, tuple(moved))

    def flush(self) -> Speech:
        return Speech(self._resampler.resample_chunk(np.empty(0, np.int16), last=True))
