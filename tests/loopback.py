"""The real server on a port of its own, in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from assistant.config import Config, ServerConfig
from assistant.server import Server, Service, create_app
from tests.fakes import FakeEngines


@dataclass(frozen=True)
class Loopback:
    host: str
    service: Service

    @property
    def realtime(self) -> str:
        return f"ws://{self.host}/v1/realtime"

    async def empty(self) -> None:
        """Return once no call is under way. Raises TimeoutError after a second: that long the end
        of a call may take."""
        async with asyncio.timeout(1):
            while self.service.calls:  # noqa: ASYNC110  # as /healthz sees it
                await asyncio.sleep(0.005)


class NamedEngines(FakeEngines):
    tts_name = "fake-voice"


@asynccontextmanager
async def serving(
    engines: FakeEngines | None, config: Config | None = None
) -> AsyncIterator[Loopback]:
    """A server that takes calls, with fake engines or, for None, with the config's real ones."""

    async def load(config: Config, progress: Any) -> Any:
        return engines

    config = config or Config(server=ServerConfig(port=0))
    app = create_app(config) if engines is None else create_app(config, load)
    server = Server(config, app)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.001)
    await app.state.loading
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Loopback(f"127.0.0.1:{port}", server.service)
    finally:
        server.should_exit = True
        await task
