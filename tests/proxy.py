"""A network between client and server that breaks when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Carries bytes between its own port and a server's."""

    def __init__(self, target: str) -> None:
        """`target` is the server's host:port."""
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._stalled: set[asyncio.StreamWriter] = set()
        self.carried = 0
        """Connections so far."""
        self.down = False
        """Nobody gets through."""
        self.server: asyncio.Server

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Every connection breaks, and whatever is on its way is lost."""
        for writer in self._writers:
            writer.transport.abort()  # type: ignore[attr-defined]  # every socket's has it
        self._writers.clear()

    def stall(self) -> None:
        """Every connection seems to be alive, and carries nothing any more."""
        self._stalled.update(self._writers)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()  # type: ignore[attr-defined]  # every socket's has it
            return
        host, port = self._target.split(":")
        there, back = await asyncio.open_connection(host, int(port))
        self.carried += 1
        self._writers += [writer, back]
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if writer not in self._stalled:
                    writer.write(data)
                    await writer.drain()
        if writer not in self._stalled:
            writer.close()


@asynccontextmanager
async def proxied(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    proxy.server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    try:
        yield proxy
    finally:
        proxy.cut()
        proxy.server.close()
