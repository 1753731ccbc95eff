"""A caller without a microphone: plays recorded speech into a server and records what it hears.

The microphone is always open: a frame goes out every 20 ms, silence where nothing is said. The
loudspeaker plays what comes in real time and is emptied on `speech_started`, as the stock
clients do, so the recording's right channel is what a caller would really have heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from assistant.clients.call import Call
from assistant.clients.line import RATE, CallError, Event
from assistant.clients.loudspeaker import Loudspeaker, Played
from speech.interfaces import Pcm

__all__ = ["RATE", "CallError", "Event", "Loudspeaker", "Played", "Utterance", "WavCaller", "load"]

_FRAME = RATE // 50
_SILENCE = np.zeros(_FRAME, np.int16)
_AUDIBLE = 300
"""Samples below this (of 32767) at the end of a recording are not speech."""

Sound = Callable[[int, int], Pcm]
"""(first sample of the call, count) -> what is heard there, shape (count,)."""


@dataclass
class Utterance:
    """Something the caller says; times in seconds of the call, negative until it is said."""

    start: float = -1.0
    end: float = -1.0
    """When the last sample of speech was spoken, trailing silence not counted."""
    said: asyncio.Event = field(default_factory=asyncio.Event)


class WavCaller(Call):
    """A call whose caller says what `say` is given."""

    def __init__(self, url: str, api_key: str = "", session: Event | None = None) -> None:
        """`url` is the websocket's; `session` is sent as the first session.update."""
        super().__init__(url, api_key, session)
        self.utterances: list[Utterance] = []
        self.around: list[Sound] = []
        """What the microphone hears beside the caller: noises, others, the loudspeaker."""
        self._speech: list[tuple[Pcm, Utterance]] = []
        self._spoken: list[tuple[int, Pcm]] = []

    def say(self, pcm: Pcm) -> Utterance:
        """Speak int16 samples at RATE, after whatever is still being said."""
        utterance = Utterance()
        self.utterances.append(utterance)
        self._speech.append((pcm, utterance))
        return utterance

    def recording(self) -> Pcm:
        """The call so far, int16 of shape (n, 2): the caller left, the assistant right."""
        parts = [(0, at, pcm) for at, pcm in self._spoken]
        parts += [(1, p.start, p.pcm) for p in self.speaker.played]
        length = max((at + len(pcm) for _, at, pcm in parts), default=0)
        stereo = np.zeros((length, 2), np.int16)
        for channel, at, pcm in parts:
            stereo[at : at + len(pcm), channel] = pcm
        return stereo

    async def _talk(self) -> None:
        """Send a frame every 20 ms, each when its last sample has been spoken."""
        sent, rest, utterance, last = 0, _SILENCE[:0], Utterance(), 0
        while True:
            if not len(rest) and self._speech:
                rest, utterance = self._speech.pop(0)
                utterance.start = sent / RATE
                last = sent + _speech_end(rest)
            frame, rest = rest[:_FRAME], rest[_FRAME:]
            sent += _FRAME
            await asyncio.sleep(max(0.0, sent / RATE - self.now))
            if utterance.end < 0 <= utterance.start and sent >= last:
                utterance.end = last / RATE
                utterance.said.set()
            heard = self._heard(frame, sent - _FRAME)
            if heard.any():
                self._spoken.append((sent - _FRAME, heard))
            await self._say(heard)

    def _heard(self, speech: Pcm, at: int) -> Pcm:
        """A frame of the microphone, once its time is over, so that the loudspeaker's is known."""
        mixed = np.concatenate([speech, _SILENCE[len(speech) :]]).astype(np.int32)
        for sound in self.around:
            mixed += sound(at, _FRAME)
        return np.clip(mixed, -32768, 32767).astype(np.int16)


def load(path: Path) -> Pcm:
    """A sound file as int16 mono at RATE, shape (n,). Raises CallError."""
    try:
        audio, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise CallError(f"expected a sound file at {path}: {error}") from None
    mono = audio.mean(axis=1).astype(np.int16)
    pcm: Pcm = mono if rate == RATE else soxr.resample(mono, rate, RATE)
    return pcm


def _speech_end(pcm: Pcm) -> int:
    """Samples up to the last audible one."""
    audible = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _AUDIBLE)
    return int(audible[-1]) + 1 if len(audible) else len(pcm)
