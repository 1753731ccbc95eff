"""The client's line against a scripted server that drops it: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from assistant.clients.line import RATE, CallError, Line, address
from speech.interfaces import Pcm

FRAME = RATE // 50


class Resuming:
    """A server of one call: numbers its events, loses the connection when told, and takes it up."""

    def __init__(self) -> None:
        self.came: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        """The call's events, by number from 1."""
        self.refusal: HTTPStatus | None = None
        self._socket: ServerConnection

    def check(self, _: ServerConnection, request: Request) -> Response | None:
        if self.refusal is None:
            return None
        return Response(self.refusal, self.refusal.phrase, Headers(), b"the grace is over")

    async def answer(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self._socket = socket
        query = parse_qs(urlsplit(socket.request.path).query)
        resume = {"token": f"t{len(self.log)}", "grace_s": 5}
        if "resume" in query:
            resumed = {"type": "conch.session.resumed", "input_events": len(self.came)}
            await socket.send(json.dumps({**resumed, "resume": resume}))
            for missed in self.log[int(query["after"][0]) :]:
                await socket.send(json.dumps(missed))
        else:
            await self.say("session.created", session={"conch": {"resume": resume}})
        async for raw in socket:
            self.came.append(json.loads(raw))

    async def say(self, kind: str, *, arrives: bool = True, **fields: Any) -> None:
        self.log.append({"type": kind, "seq": len(self.log) + 1, **fields})
        if arrives:
            await self._socket.send(json.dumps(self.log[-1]))

    def heard(self) -> list[int]:
        """Every sample of the microphone, in the order it came."""
        audio = b"".join(base64.b64decode(e["audio"]) for e in self.came if "audio" in e)
        return list(np.frombuffer(audio, "<i2").tolist())

    def drop(self) -> None:
        self._socket.transport.abort()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110  # neither side has an event for it
            await asyncio.sleep(0.01)


def frames(count: int) -> list[Pcm]:
    return list(np.arange(count * FRAME, dtype=np.int16).reshape(count, FRAME))


async def test_what_was_missed_on_both_sides_comes_once_and_in_order() -> None:
    server, kinds, spoken = Resuming(), [], frames(60)

    async def read(line: Line) -> None:
        async with aclosing(line.events()) as events:
            async for event in events:
                kinds.append(event["type"])  # noqa: PERF401  # as they come

    async with serve(server.answer, "127.0.0.1", 0, process_request=server.check) as serving:
        line = Line(f"ws://127.0.0.1:{serving.sockets[0].getsockname()[1]}/v1/realtime")
        for frame in spoken[:5]:
            await line.hear(frame)  # before there is a line
        assert not line.up
        await line.open()
        assert line.up
        reading = asyncio.create_task(read(line))
        for frame in spoken[5:20]:
            await line.hear(frame)
        await until(lambda: len(server.heard()) == 20 * FRAME)
        del server.came[-3:]  # they were still on their way
        await server.say("one")
        await until(lambda: kinds[-1:] == ["one"])
        await server.say("two", arrives=False)
        server.refusal = HTTPStatus.BAD_GATEWAY  # the network is not back at once
        server.drop()
        await until(lambda: not line.up)
        await line.send({"type": "said while it was down"})
        for frame in spoken[20:50]:
            await line.hear(frame)
        server.refusal = None
        await until(lambda: line.up)
        for frame in spoken[50:]:
            await line.hear(frame)
        await server.say("three")
        await until(lambda: kinds[-1:] == ["three"] and len(server.heard()) >= 60 * FRAME)
        assert line.said == 60 * FRAME
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await line.close()
    assert server.heard() == np.concatenate(spoken).tolist()
    assert kinds == ["session.created", "one", "two", "three"]
    others = [event["type"] for event in server.came if "audio" not in event]
    assert others == ["session.update", "said while it was down"]


async def test_a_call_that_cannot_be_gone_on_with_says_why() -> None:
    server = Resuming()
    async with serve(server.answer, "127.0.0.1", 0, process_request=server.check) as serving:
        line = Line(f"ws://127.0.0.1:{serving.sockets[0].getsockname()[1]}/")
        await line.open()
        async with aclosing(line.events()) as events:
            await anext(events)
            server.refusal = HTTPStatus.NOT_FOUND
            server.drop()
            with pytest.raises(CallError, match="the grace is over"):
                await anext(events)
        assert not line.up
        await line.close()


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://127.0.0.1:8470", "ws://127.0.0.1:8470/v1/realtime"),
        ("https://conch.local/", "wss://conch.local/v1/realtime"),
        ("conch.local:8470", "ws://conch.local:8470/v1/realtime"),
        ("ws://h/realtime?model=x", "ws://h/realtime?model=x"),
    ],
)
def test_a_server_may_be_named_as_people_do(typed: str, url: str) -> None:
    assert address(typed) == url


@pytest.mark.parametrize("typed", ["", "ftp://x", "http://"])
def test_what_is_no_server_is_refused(typed: str) -> None:
    with pytest.raises(CallError, match="expected a server as in"):
        address(typed)
