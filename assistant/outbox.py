"""What is on its way to the client: bounded, in order, and closed with a reason when it jams."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from assistant.wire import realtime as wire

SLOW_CLIENT = 1008
"""Close code (RFC 6455: policy violation) for a client that does not read."""


class Transport(Protocol):
    """A websocket, or a test's stand-in for one."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the client is gone."""

    async def send(self, text: str) -> None:
        """Waits while the socket pushes back."""

    async def close(self, code: int, reason: str) -> None: ...


class Outbox:
    """Sends one call's events; `put` never waits, and a jam ends `run`."""

    def __init__(self, transport: Transport, limit: int) -> None:
        """`limit` in characters not yet taken by the socket."""
        self._transport, self._limit = transport, limit
        self._waiting: deque[str] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._jammed = asyncio.Event()

    def put(self, event: wire.Event) -> None:
        text = wire.encode(event)
        if self._size + len(text) > self._limit:
            self._jammed.set()
            return
        self._waiting.append(text)
        self._size += len(text)
        self._more.set()

    async def run(self) -> None:
        """Send until the client is gone or has not read `limit` characters."""
        drain = asyncio.create_task(self._drain())
        jam = asyncio.create_task(self._jammed.wait())
        try:
            await asyncio.wait([drain, jam], return_when=asyncio.FIRST_COMPLETED)
        finally:
            drain.cancel()
            jam.cancel()
            await asyncio.gather(drain, jam, return_exceptions=True)
        if self._jammed.is_set():
            reason = f"the client reads too slowly: over {self._limit} bytes are waiting for it"
            await self._transport.close(SLOW_CLIENT, reason)

    async def _drain(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                text = self._waiting.popleft()
                await self._transport.send(text)
                self._size -= len(text)
