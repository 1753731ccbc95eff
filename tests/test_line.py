"""The client's line against a scripted server that drops it: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from assistant.clients.line import RATE, Backlog, CallError, Line, address

FRAME = RATE // 50


class Resuming:
    """A server of one call: numbers its events, loses the connection when told, and takes it up."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        """Every sample of the microphone, in the order it came."""
        self.told: list[dict[str, Any]] = []
        """What else came."""
        self.queries: list[dict[str, list[str]]] = []
        self.log: list[dict[str, Any]] = []
        """The call's events, by number from 1."""
        self.refusal: HTTPStatus | None = None
        self._token = 0
        self._socket: ServerConnection

    def check(self, _: ServerConnection, request: Request) -> Response | None:
        if self.refusal is None:
            return None
        body = json.dumps({"error": {"message": "the grace is over"}}).encode()
        return Response(self.refusal, self.refusal.phrase, Headers(), body)

    async def answer(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self._socket = socket
        query = parse_qs(urlsplit(socket.request.path).query)
        self.queries.append(query)
        self._token += 1
        resume = {"token": f"t{self._token}", "grace_s": 5}
        if "resume" in query:
            await self._send(
                {
                    "type": "conch.session.resumed",
                    "resume": resume,
                    "input_audio_ms": len(self.heard) * 1000 // RATE,
                    "seq": len(self.log) + 1,
                }
            )
            for missed in self.log[int(query["after"][0]) :]:
                await self._send(missed)
        else:
            await self.say("session.created", session={"conch": {"resume": resume}})
        async for raw in socket:
            event = json.loads(raw)
            if event["type"] == "input_audio_buffer.append":
                self.heard += np.frombuffer(base64.b64decode(event["audio"]), "<i2").tolist()
            else:
                self.told.append(event)

    async def say(self, kind: str, *, arrives: bool = True, **fields: Any) -> None:
        self.log.append({"type": kind, "seq": len(self.log) + 1, **fields})
        if arrives:
            await self._send(self.log[-1])

    async def _send(self, event: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(event))

    def drop(self) -> None:
        self._socket.transport.abort()


@asynccontextmanager
async def listening(server: Resuming) -> AsyncIterator[Line]:
    async with serve(server.answer, "127.0.0.1", 0, process_request=server.check) as serving:
        line = Line(f"ws://127.0.0.1:{serving.sockets[0].getsockname()[1]}/v1/realtime")
        await line.open()
        yield line
        await line.close()


def frames(count: int, start: int = 0) -> list[np.ndarray]:
    numbers = np.arange(start, start + count * FRAME) % 30_000
    return list(numbers.astype(np.int16).reshape(count, FRAME))


async def test_what_was_missed_on_both_sides_comes_once_and_in_order() -> None:
    server = Resuming()
    kinds: list[str] = []
    async with listening(server) as line:
        spoken = frames(60)
        for frame in spoken[:5]:
            await line.hear(frame)  # before the session is there

        async def read() -> None:
            async with aclosing(line.events()) as events:
                async for event in events:
                    kinds.append(event["type"])  # noqa: PERF401  # as they come

        async def until(happened: Any) -> None:
            async with asyncio.timeout(5):
                while not happened():  # noqa: ASYNC110  # neither side has an event for it
                    await asyncio.sleep(0.01)

        reading = asyncio.create_task(read())
        await until(lambda: line.up)
        for frame in spoken[5:20]:
            await line.hear(frame)
        await until(lambda: len(server.heard) == 20 * FRAME)
        server.heard = server.heard[: 17 * FRAME]  # the last three were still on their way
        await server.say("one")
        await until(lambda: kinds[-1:] == ["one"])
        await server.say("two", arrives=False)
        await server.say("three", arrives=False)
        server.refusal = HTTPStatus.BAD_GATEWAY  # the network is not back at once
        server.drop()
        await until(lambda: not line.up)
        await line.send({"type": "said while it was down"})
        for frame in spoken[20:50]:
            await line.hear(frame)
        server.refusal = None
        await until(lambda: line.up)
        await server.say("four")
        for frame in spoken[50:]:
            await line.hear(frame)
        await until(lambda: kinds[-1:] == ["four"] and len(server.heard) == 60 * FRAME)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert server.heard == np.concatenate(spoken).tolist()
    assert kinds == ["session.created", "one", "conch.session.resumed", "two", "three", "four"]
    assert [event["type"] for event in server.told] == ["session.update", "said while it was down"]
    assert server.queries[1] == {"ext": ["conch.1"], "resume": ["t1"], "after": ["2"]}


async def test_a_second_drop_uses_the_second_token() -> None:
    server = Resuming()
    async with listening(server) as line, aclosing(line.events()) as events:
        for _ in range(3):
            await anext(events)
            server.drop()
    assert [query.get("resume") for query in server.queries] == [None, ["t1"], ["t2"]]


async def test_a_call_that_cannot_be_resumed_says_why() -> None:
    server = Resuming()
    async with listening(server) as line, aclosing(line.events()) as events:
        await anext(events)
        server.refusal = HTTPStatus.GONE
        server.drop()
        with pytest.raises(CallError, match="could not be resumed: HTTP 410: the grace is over"):
            await anext(events)
        with pytest.raises(CallError, match="could not be resumed"):
            await line.send({"type": "late"})
        with pytest.raises(CallError, match="could not be resumed"):
            await line.hear(frames(1)[0])


async def test_a_farewell_ends_the_call() -> None:
    async def close(socket: ServerConnection) -> None:
        session = {"conch": {"resume": {"token": "t", "grace_s": 5}}}
        await socket.send(json.dumps({"type": "session.created", "session": session}))
        await socket.close(1001, "the server is stopping")

    async with serve(close, "127.0.0.1", 0) as serving:
        line = Line(f"ws://127.0.0.1:{serving.sockets[0].getsockname()[1]}/")
        await line.open()
        async with aclosing(line.events()) as events:
            await anext(events)
            with pytest.raises(CallError, match="the server is stopping"):
                await anext(events)
        await line.close()


def test_the_backlog_keeps_its_last_samples_by_their_place_in_the_call() -> None:
    backlog = Backlog(kept=3 * FRAME)
    for frame in frames(5):
        backlog.add(frame)
    assert backlog.end == 5 * FRAME
    assert backlog.after(4 * FRAME + 7).tolist() == list(range(4 * FRAME + 7, 5 * FRAME))
    assert backlog.after(0).tolist() == list(range(2 * FRAME, 5 * FRAME)), "the rest is gone"
    assert len(backlog.after(5 * FRAME)) == 0


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
