"""A network between client and server that breaks when a test says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Carries bytes between its own port and a server's, each for `latency` seconds."""

    def __init__(self, target: str, latency: float) -> None:
        """`target` is the server's host:port."""
        self._target, self._latency = target, latency
        self._writers: set[asyncio.StreamWriter] = set()
        self._stalled: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.get_running_loop()
        self.up = True
        """Whether new connections get through."""
        self.carried = 0
        """Connections so far."""
        self.server: asyncio.Server

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Every connection breaks, and whatever is on its way is lost."""
        self.stall()
        for writer in self._stalled:
            writer.transport.abort()
        self._stalled.clear()

    def stall(self) -> None:
        """Every connection seems to be alive, and carries nothing any more."""
        self._stalled |= self._writers
        self._writers.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        host, port = self._target.split(":")
        there, back = await asyncio.open_connection(host, int(port))
        self.carried += 1
        self._writers |= {writer, back}
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: deque[bytes] = deque()  # timers of one instant ring in any order
        data = b"-"
        with suppress(ConnectionError):
            while data:
                data = await reader.read(65536)
                under_way.append(data)
                self._loop.call_later(self._latency, self._arrive, writer, under_way)

    def _arrive(self, writer: asyncio.StreamWriter, under_way: deque[bytes]) -> None:
        data = under_way.popleft()
        if writer not in self._writers:
            return
        if data:
            writer.write(data)
        else:
            writer.close()


@asynccontextmanager
async def proxied(target: str, latency: float = 0.1) -> AsyncIterator[Proxy]:
    proxy = Proxy(target, latency)
    proxy.server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    try:
        yield proxy
    finally:
        proxy.cut()
        proxy.server.close()
