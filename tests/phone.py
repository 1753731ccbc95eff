"""A telephone at Twilio, made from the documentation of Media Streams, in virtual time."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from speech.audio import to_float, ulaw_decode, ulaw_encode
from tests.fakes import FakeEngines, pcm16

RATE = 8000
PACKET = 160
"""Samples, and bytes, of 20 ms."""


def start(**parameters: str) -> dict[str, Any]:
    """As in the documentation, numbers as strings where it has them so."""
    return {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC1",
            "streamSid": "MZ1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
        "streamSid": "MZ1",
    }


def media(timestamp: int, audio: bytes, track: str = "inbound") -> dict[str, Any]:
    payload = base64.b64encode(audio).decode()
    sound = {"track": track, "chunk": "1", "timestamp": str(timestamp), "payload": payload}
    return {"event": "media", "sequenceNumber": "2", "media": sound, "streamSid": "MZ1"}


def dtmf(digit: str) -> dict[str, Any]:
    keys = {"track": "inbound_track", "digit": digit}
    return {"event": "dtmf", "streamSid": "MZ1", "sequenceNumber": "5", "dtmf": keys}


class Phone:
    """Twilio with its caller: plays what it is sent in real time after `latency` seconds, and
    sends marks back when the audio before them is over, or cleared."""

    def __init__(self, engines: FakeEngines, latency: float = 0.0) -> None:
        self.engines, self.latency = engines, latency
        self.played = bytearray()
        """What came out of the caller's receiver."""
        self.cleared = 0
        """Clears that arrived."""
        self.sent = bytearray()
        """The audio that the server has sent."""
        self.proved = 0
        """Bytes of it up to the latest mark that came back to the server."""
        self.interrupted: tuple[str, str] | None = None
        """The words that were proved, and those that were sent, when the server sent a clear."""
        self.gone = False
        self.closed: tuple[int, str] | None = None
        self._marks: dict[str, int] = {}
        self._timestamp = 0
        self._buffer: deque[bytes | str] = deque()
        self._incoming: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._playing = asyncio.create_task(self._play())

    # --- the line that the server sees ----------------------------------------------------

    async def receive(self) -> str | None:
        raw = await self._incoming.get()
        if (message := json.loads(raw))["event"] == "mark":
            self.proved = self._marks[message["mark"]["name"]]
        return raw

    async def send(self, text: str) -> None:
        message = json.loads(text)
        assert message["streamSid"] == "MZ1"
        match message["event"]:
            case "media":
                self.sent += base64.b64decode(message["media"]["payload"])
            case "mark":
                self._marks[message["mark"]["name"]] = len(self.sent)
            case "clear":
                proved, sent = bytes(self.sent[: self.proved]), bytes(self.sent)
                self.interrupted = self.words(proved), self.words(sent)
        self._loop.call_later(self.latency, self._arrives, message)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    # --- Twilio ---------------------------------------------------------------------------

    def tell(self, message: dict[str, Any]) -> None:
        self._loop.call_later(self.latency, self._incoming.put_nowait, json.dumps(message))

    def _arrives(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "media":
                audio = base64.b64decode(message["media"]["payload"])
                step = PACKET // 4
                self._buffer.extend(audio[at : at + step] for at in range(0, len(audio), step))
            case "mark":
                self._buffer.append(message["mark"]["name"])
            case "clear":
                self.cleared += 1
                names = [what for what in self._buffer if isinstance(what, str)]
                self._buffer.clear()
                for name in names:
                    self._mark(name)

    async def _play(self) -> None:
        while True:
            while self._buffer and isinstance(self._buffer[0], str):
                self._mark(str(self._buffer.popleft()))
            audio = self._buffer.popleft() if self._buffer else b""
            assert isinstance(audio, bytes)
            self.played += audio
            await asyncio.sleep(len(audio) / RATE if audio else 0.005)

    def _mark(self, name: str) -> None:
        self.tell({"event": "mark", "streamSid": "MZ1", "mark": {"name": name}})

    # --- the caller -----------------------------------------------------------------------

    async def say(self, text: str, lost: range = range(0)) -> None:
        """Speak; the packets whose numbers are in `lost` never reach the server."""
        await self.play(self.engines.code.audio(text, RATE), lost)

    async def quiet(self, seconds: float) -> None:
        await self.play(np.zeros(round(seconds * RATE), np.float32))

    async def play(self, audio: Any, lost: range = range(0)) -> None:
        for number, at in enumerate(range(0, len(audio), PACKET)):
            if number not in lost:
                self.tell(media(self._timestamp, ulaw_encode(pcm16(audio[at : at + PACKET]))))
            self._timestamp += 20
            await asyncio.sleep(0.02)

    async def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        end = self._loop.time() + seconds
        while not true():
            assert self._loop.time() < end, self.words(bytes(self.played))
            await self.quiet(0.1)

    async def hang_up(self) -> None:
        self.tell({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
        await asyncio.sleep(self.latency + 0.1)
        self._playing.cancel()

    def words(self, audio: bytes) -> str:
        return self.engines.code.text(to_float(ulaw_decode(audio)), RATE)

    @property
    def heard(self) -> str:
        return self.words(bytes(self.played))
