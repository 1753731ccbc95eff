"""A caller for other people's clients: what it says, and what it is told of the call.

Each client runs in a process of its own, with its own packages; standard input says what the call
is to be, as JSON: `url`, `lines` (PCM16 of 24 kHz, base64; the second is spoken over the reply to
the first), and standard output ends with one line of JSON, which says what was heard (`Call`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

RATE, STEP = 24_000, 480
"""Hz; samples of a microphone's frame."""
_OVER = 2 * RATE
"""Bytes of a reply after which the second line is spoken: a second."""
_PATIENCE = 60.0


@dataclass
class Call:
    """What came of it, as the application on top of the client saw it."""

    played: list[str] = field(default_factory=list)
    """Audio of each reply that was played, to its end or to where it was interrupted; base64."""
    interruptions: int = 0
    asked: list[str] = field(default_factory=list)
    """Cities whose weather the client's tool was asked for."""
    history: list[tuple[str, str]] = field(default_factory=list)
    """Role and text of each message that the client remembers."""
    errors: list[str] = field(default_factory=list)


class Caller:
    """Speaks the lines at a microphone's pace and keeps what is played."""

    def __init__(self, lines: list[bytes]) -> None:
        self.call = Call()
        self.finished = asyncio.Event()
        """A reply was played to its end."""
        self._lines = lines
        self._playing = bytearray()
        self._spoken_over = asyncio.Event()
        self._due = 0.0
        """Loop time of the microphone's next frame."""

    def plays(self, pcm: bytes) -> None:
        self._playing += pcm
        if len(self._playing) >= _OVER:
            self._spoken_over.set()

    def stopped(self, *, interrupted: bool) -> None:
        """What was playing is over."""
        if not self._playing:
            return
        self.call.played.append(base64.b64encode(self._playing).decode())
        self._playing.clear()
        self._spoken_over.clear()
        if interrupted:
            self.call.interruptions += 1
        else:
            self.finished.set()

    async def speak(self, microphone: Callable[[bytes], Awaitable[None]]) -> None:
        """Say the lines, be silent in between and afterwards; ends when cancelled."""
        self._due = asyncio.get_running_loop().time()
        for at, line in enumerate(self._lines):
            while at and not self._spoken_over.is_set():
                await self._send(bytes(2 * STEP), microphone)
            await self._send(line, microphone)
        while True:
            await self._send(bytes(2 * STEP), microphone)

    async def _send(self, pcm: bytes, microphone: Callable[[bytes], Awaitable[None]]) -> None:
        for start in range(0, len(pcm), 2 * STEP):
            await microphone(pcm[start : start + 2 * STEP])
            # By the clock: a busy machine must not make gaps in what is said.
            self._due += STEP / RATE
            await asyncio.sleep(self._due - asyncio.get_running_loop().time())


Hold = Callable[[str, Caller], Awaitable[None]]


def run(hold: Hold) -> None:
    """Hold the call that standard input describes; `hold` returns when `caller.finished`."""
    given: dict[str, Any] = json.load(sys.stdin)

    async def whole() -> Call:
        caller = Caller([base64.b64decode(line) for line in given["lines"]])
        try:
            async with asyncio.timeout(_PATIENCE):
                await hold(given["url"], caller)
        except TimeoutError:
            caller.call.errors.append(f"no reply was played to its end in {_PATIENCE} s")
        return caller.call

    sys.stdout.write("\n" + json.dumps(asdict(asyncio.run(whole()))) + "\n")
