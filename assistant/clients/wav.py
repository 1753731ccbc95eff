"""A caller without a microphone: plays recorded speech into a server and records what it hears.

The microphone is always open: a frame goes out every 20 ms, silence where nothing is said. The
loudspeaker plays what comes in real time and is emptied on `speech_started`, as the stock
clients do, so the recording's right channel is what a caller would really have heard.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile
import soxr

from assistant.clients.connection import Connection, ConnectionLost
from speech.interfaces import Pcm

RATE = 24_000
"""Hz, on the wire and in the recording."""
_FRAME = RATE // 50
_SILENCE = np.zeros(_FRAME, np.int16)
_AUDIBLE = 300
"""Samples below this (of 32767) at the end of a recording are not speech."""

Event = dict[str, Any]
Sound = Callable[[int, int], Pcm]
"""(first sample of the call, count) -> what is heard there, shape (count,)."""


class CallError(Exception):
    """The call could not be held; the message says what was waited for and what came."""


@dataclass
class Utterance:
    """Something the caller says; times in seconds of the call, negative until it is said."""

    start: float = -1.0
    end: float = -1.0
    """When the last sample of speech was spoken, trailing silence not counted."""
    said: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Played:
    """A stretch of the assistant's audio on the caller's loudspeaker."""

    item_id: str
    start: int
    """Sample of the call at which it began."""
    pcm: Pcm


class Loudspeaker:
    """Plays audio deltas one after the other; all positions are samples of the call."""

    def __init__(self) -> None:
        self.played: list[Played] = []
        self.gaps: list[tuple[float, float]] = []
        """(second of the call, seconds of silence) for each time it ran dry within a reply."""
        self.cuts: list[tuple[float, str]] = []
        """(second of the call, item) for each time it was emptied while that item played."""
        self._end = 0

    @property
    def end(self) -> int:
        """The sample at which all that came will have been played."""
        return self._end

    def play(self, item_id: str, pcm: Pcm, now: int) -> None:
        same = bool(self.played) and self.played[-1].item_id == item_id
        if same and now > self._end:
            self.gaps.append((self._end / RATE, (now - self._end) / RATE))
        start = max(now, self._end)
        self.played.append(Played(item_id, start, pcm))
        self._end = start + len(pcm)

    def sound(self, start: int, count: int) -> Pcm:
        """What it played from sample `start` on, shape (count,)."""
        heard = np.zeros(count, np.int16)
        for part in reversed(self.played):
            offset = part.start - start
            if offset + len(part.pcm) <= 0:
                break
            if offset < count:
                piece = part.pcm[max(0, -offset) : count - offset]
                heard[max(0, offset) : max(0, offset) + len(piece)] = piece
        return heard

    def heard(self, item_id: str, now: int) -> int:
        """Samples of that item played by `now`."""
        parts = (p for p in self.played if p.item_id == item_id)
        return sum(min(max(now - p.start, 0), len(p.pcm)) for p in parts)

    def flush(self, now: int) -> tuple[str, int] | None:
        """Fall silent: (item that was playing, samples of it that were heard), or None."""
        if now >= self._end:
            return None
        item_id = next(p.item_id for p in self.played if p.start + len(p.pcm) > now)
        samples = self.heard(item_id, now)
        kept = [replace(p, pcm=p.pcm[: now - p.start]) for p in self.played if p.start < now]
        self.played, self._end = kept, now
        self.cuts.append((now / RATE, item_id))
        return item_id, samples


class WavCaller:
    """One call. Use it as an async context manager; events are kept with their arrival times."""

    def __init__(self, url: str, api_key: str = "", session: Event | None = None) -> None:
        """`url` is the websocket's; `session` is sent as the first session.update."""
        self._connection = Connection(url, api_key)
        self._session = {"type": "realtime", **(session or {})}
        self.events: list[tuple[float, Event]] = []
        """(second of the call, event), audio deltas without their audio."""
        self.utterances: list[Utterance] = []
        self.speaker = Loudspeaker()
        self.around: list[Sound] = []
        """What the microphone hears beside the caller: noises, others, the loudspeaker."""
        self._speech: list[tuple[Pcm, Utterance]] = []
        self._spoken: list[tuple[int, Pcm]] = []
        self._seen: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = ""
        self._began = 0.0

    async def __aenter__(self) -> Self:
        try:
            await self._connection.open()
        except ConnectionLost as error:
            raise CallError(str(error)) from None
        self._began = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._talk())]
        try:
            await self.wait_for("session.created", 10)
            await self.send({"type": "session.update", "session": self._session})
            await self.wait_for("session.updated", 10)
        except BaseException:
            await self.hang_up()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        return asyncio.get_running_loop().time() - self._began

    async def send(self, event: Event) -> None:
        await self._connection.send(event)

    def say(self, pcm: Pcm) -> Utterance:
        """Speak int16 samples at RATE, after whatever is still being said."""
        utterance = Utterance()
        self.utterances.append(utterance)
        self._speech.append((pcm, utterance))
        return utterance

    async def wait_for(self, kind: str, timeout: float) -> Event:
        """The next event of that type which wait_for has not returned yet. Raises CallError."""
        try:
            async with asyncio.timeout(timeout), self._news:
                while True:
                    for at in range(self._seen.get(kind, 0), len(self.events)):
                        if self.events[at][1]["type"] == kind:
                            self._seen[kind] = at + 1
                            return self.events[at][1]
                    self._seen[kind] = len(self.events)
                    if self._closed:
                        raise CallError(f"expected {kind}, but the call ended: {self._closed}")
                    await self._news.wait()
        except TimeoutError:
            last = [event["type"] for _, event in self.events[-5:]]
            raise CallError(f"expected {kind} within {timeout:g} s; the last were {last}") from None

    async def until(self, happened: Callable[[], bool], timeout: float) -> bool:
        """Wait until an event has made `happened` true; False when none did in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                while not (happened() or self._closed):
                    await self._news.wait()
        return happened()

    def forget(self, kind: str) -> None:
        """wait_for looks for that type only among what comes from now on."""
        self._seen[kind] = len(self.events)

    async def hear(self, item_id: str, seconds: float) -> None:
        """Wait until the loudspeaker has played that much of an item, or all there is of it."""
        while self.speaker.heard(item_id, round(self.now * RATE)) < seconds * RATE:
            if any(_completed(event, item_id) for _, event in self.events):
                return await self.played_out()
            await asyncio.sleep(0.02)
        return None

    async def played_out(self) -> None:
        """Wait until the loudspeaker has played all it was given."""
        while (left := self.speaker.end / RATE - self.now) > 0:
            await asyncio.sleep(left)

    def recording(self) -> Pcm:
        """The call so far, int16 of shape (n, 2): the caller left, the assistant right."""
        parts = [(0, at, pcm) for at, pcm in self._spoken]
        parts += [(1, p.start, p.pcm) for p in self.speaker.played]
        length = max((at + len(pcm) for _, at, pcm in parts), default=0)
        stereo = np.zeros((length, 2), np.int16)
        for channel, at, pcm in parts:
            stereo[at : at + len(pcm), channel] = pcm
        return stereo

    # --- microphone and loudspeaker -----------------------------------------------------------

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
            audio = base64.b64encode(heard.astype("<i2").tobytes()).decode()
            await self.send({"type": "input_audio_buffer.append", "audio": audio})

    def _heard(self, speech: Pcm, at: int) -> Pcm:
        """A frame of the microphone, once its time is over, so that the loudspeaker's is known."""
        mixed = np.concatenate([speech, _SILENCE[len(speech) :]]).astype(np.int32)
        for sound in self.around:
            mixed += sound(at, _FRAME)
        return np.clip(mixed, -32768, 32767).astype(np.int16)

    async def _listen(self) -> None:
        reason = "this client failed"
        try:
            while True:
                await self._take(await self._connection.receive())
        except ConnectionLost as error:
            reason = str(error)
        finally:
            async with self._news:
                self._closed = reason
                self._news.notify_all()

    async def _take(self, event: Event) -> None:
        now = self.now
        match event["type"]:
            case "response.output_audio.delta":
                pcm = np.frombuffer(base64.b64decode(event.pop("delta")), "<i2")
                self.speaker.play(event["item_id"], pcm, round(now * RATE))
            case "input_audio_buffer.speech_started":
                if cut := self.speaker.flush(round(now * RATE)):
                    await self._truncate(*cut)
        async with self._news:
            self.events.append((now, event))
            self._news.notify_all()

    async def _truncate(self, item_id: str, samples: int) -> None:
        await self.send(
            {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": 0,
                "audio_end_ms": samples * 1000 // RATE,
            }
        )


def _completed(event: Event, item_id: str) -> bool:
    return (event["type"], event.get("item_id")) == ("response.output_audio.done", item_id)


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
