"""A hundred calls opened and dropped at random points leave nothing behind."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from assistant.config import Config, ServerConfig
from llm.interfaces import Finished, TextDelta
from tests.fakes import pcm16
from tests.loopback import Loopback, NamedEngines, serving

CALLS, AT_ONCE = 100, 4
SLOTS = 2 * AT_ONCE
"""A vanished call's slot is free in a moment, not at once."""


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Caller:
    """One client that does what comes to its mind, and vanishes."""

    def __init__(
        self, call: ClientConnection, engines: NamedEngines, chance: random.Random
    ) -> None:
        self._call, self._engines, self._chance = call, engines, chance

    async def run(self) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [
            self._speak,
            self._speak,
            self._half_a_word,
            self._write,
            self._switch,
            self._cancel,
            self._listen,
        ]
        for _ in range(self._chance.randrange(5)):
            await self._chance.choice(acts)()
            await asyncio.sleep(self._chance.random() * 0.1)
        if self._chance.random() < 0.7:
            self._call.transport.abort()
        else:
            await self._call.close()

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self._call.send(json.dumps({"type": kind, **fields}))

    async def _append(self, text: str, seconds: float) -> None:
        audio = self._engines.code.audio(text, 24_000)
        quiet = np.zeros(int(seconds * 24_000), np.float32)
        data = pcm16(np.concatenate([audio, quiet])).tobytes()
        await self._tell("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    async def _speak(self) -> None:
        await self._append("tell me all of it", 0.6)

    async def _half_a_word(self) -> None:
        await self._append("well", 0.0)

    async def _write(self) -> None:
        content = [{"type": "input_text", "text": "hello there"}]
        item = {"type": "message", "role": "user", "content": content}
        await self._tell("conversation.item.create", item=item)
        await self._tell("response.create")

    async def _switch(self) -> None:
        detection = self._chance.choice([None, {"type": "server_vad"}, {"type": "semantic_vad"}])
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await self._tell("session.update", session=session)

    async def _cancel(self) -> None:
        await self._tell("response.cancel")

    async def _listen(self) -> None:
        for _ in range(self._chance.randrange(8)):
            try:
                await asyncio.wait_for(self._call.recv(), 0.05)
            except TimeoutError:
                return


async def calls(server: Loopback, engines: NamedEngines, seeds: range, tasks: int) -> None:
    """One call for each seed, AT_ONCE at a time, until no more than `tasks` are left."""
    waiting = list(seeds)

    async def line() -> None:
        while waiting:
            seed = waiting.pop()
            async with connect(server.realtime, close_timeout=0.5) as call:
                try:
                    await Caller(call, engines, random.Random(seed)).run()  # no secret
                except ConnectionClosed as closed:
                    raise AssertionError(f"call {seed} was hung up on: {closed}") from closed

    await asyncio.gather(*(line() for _ in range(AT_ONCE)))
    await server.empty()
    with suppress(TimeoutError):  # the test then says which they are
        async with asyncio.timeout(1):  # the server gives memory back after the last call
            while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  # seen from outside
                await asyncio.sleep(0.01)


async def test_a_hundred_dropped_calls_leave_nothing_behind() -> None:
    engines = NamedEngines(cost=0.01)
    engines.llm.script = lambda _: [*(TextDelta(f"word{n} ") for n in range(40)), Finished("stop")]
    engines.llm.free = SLOTS
    config = Config(server=ServerConfig(port=0, max_calls=SLOTS))
    async with serving(engines, config) as server:
        lost: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: lost.append(what))
        before = len(asyncio.all_tasks())
        await calls(server, engines, range(10), before)
        first = resident()
        replies = len(engines.llm.prompts)
        await calls(server, engines, range(10, CALLS), before)
        grown = resident() - first
        assert replies, "no call came as far as a reply: the test proves nothing"
        assert engines.llm.free == SLOTS
        assert len(asyncio.all_tasks()) == before, asyncio.all_tasks()
        assert not any(engines.running.values())
        assert not lost, lost
    assert grown < 5_000_000
