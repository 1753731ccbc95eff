"""A microphone and a loudspeaker that share a clock, through PortAudio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from assistant.clients.line import RATE, CallError
from speech.interfaces import Pcm

BLOCK = RATE // 50
"""Samples in each block: 20 ms."""
_WAITING = 250
"""Blocks (5 s) that may wait for a loop that is busy; more are let go."""
_SILENT = 5.0
"""Seconds without a block after which the sound card is gone."""
_ATTEMPTS = 3
"""Times that it is opened again before it is given up."""

_LOG = logging.getLogger(__name__)

Sound = Callable[[int, int], Pcm]
"""(first sample, count) -> what the loudspeaker plays there, shape (count,). Called on the sound
card's thread."""


@dataclass(frozen=True, slots=True)
class Block:
    """20 ms of a room; both have the shape (BLOCK,)."""

    heard: Pcm
    played: Pcm
    """What went to the loudspeaker as this was heard. It sounds a little later."""


class SoundCard(Protocol):
    """One open microphone and loudspeaker at RATE, both mono."""

    position: int
    """Samples that the loudspeaker has taken."""
    latency: int
    """Samples until what it takes is heard."""

    def open(self) -> None:
        """Raises CallError where there is no such microphone or loudspeaker."""

    async def block(self) -> Block:
        """The next one. Raises CallError when there will be none."""

    async def close(self) -> None: ...


class PortAudioCard:
    """A name may be a part of a device's name, or its number; empty is the system's own choice."""

    def __init__(
        self, sound: Sound, microphone: str = "", loudspeaker: str = "", latency_s: float = 0.1
    ) -> None:
        """`latency_s` is asked of the driver: less is quicker, and drops out sooner."""
        self.position = 0
        self.latency = 0
        self._sound = sound
        self._names = (microphone, loudspeaker)
        self._latency_s = latency_s
        self._blocks: asyncio.Queue[Block | None] = asyncio.Queue(_WAITING)
        self._loop = asyncio.get_running_loop()
        self._lost = 0
        self._stream: Any = None
        self._opened = 0
        """Counts openings and closings, to know whose end is told."""

    def open(self) -> None:
        try:
            import sounddevice
        except OSError as error:
            raise CallError(
                f"expected PortAudio (apt-get install libportaudio2): {error}"
            ) from None
        self._opened += 1
        number = self._opened
        try:
            self._stream = sounddevice.Stream(
                samplerate=RATE, blocksize=BLOCK, channels=1, dtype="int16",
                device=tuple(_device(name) for name in self._names), latency=self._latency_s,
                callback=self._turn, finished_callback=lambda: self._ended(number),
            )  # fmt: skip
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise CallError(f"expected a microphone and a loudspeaker: {error}") from None
        self.latency = round(self._stream.latency[1] * RATE)

    async def close(self) -> None:
        # PortAudio waits for its thread; the loop does not.
        self._opened += 1
        await asyncio.to_thread(self._stream.close, ignore_errors=True)

    async def block(self) -> Block:
        for _ in range(_ATTEMPTS):
            with suppress(TimeoutError):
                async with asyncio.timeout(_SILENT):
                    if (block := await self._blocks.get()) is not None:
                        return block
            # ALSA ends a stream that a busy machine served too late; the room is still there.
            _LOG.warning("the sound card stopped; it is opened again")
            await self.close()
            self.open()
        raise CallError("the sound card stopped")

    def _turn(self, heard: Any, played: Any, count: int, *_: Any) -> None:
        """PortAudio's callback, on its thread: a block in, a block out."""
        played[:, 0] = self._sound(self.position, count)
        self.position += count
        block = Block(heard[:, 0].copy(), played[:, 0].copy())
        self._loop.call_soon_threadsafe(self._put, block)

    def _ended(self, number: int) -> None:
        """PortAudio's, when that stream has stopped, on a thread of its own."""
        if number == self._opened and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, None)

    def _put(self, block: Block | None) -> None:
        if self._blocks.full():
            self._blocks.get_nowait()
            self._lost += 1
            if self._lost % _WAITING == 1:
                _LOG.warning(
                    "%d blocks of the microphone were lost: the machine is busy", self._lost
                )
        self._blocks.put_nowait(block)


def _device(name: str) -> str | int | None:
    return int(name) if name.isdecimal() else name or None
