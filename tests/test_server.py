"""The real server on loopback, with calls that only note what happens to them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assistant.config import Config, Secret, ServerConfig, VadConfig
from assistant.engines import Engines, LoadError, Progress, engine_class
from assistant.outbox import Transport
from assistant.server import Server, create_app, serve
from llm.interfaces import NoFreeSlot
from tests.fakes import FakeEngines

KEY = "sk-secret"


class NamedEngines(FakeEngines):
    tts_name = "fake-voice"


@dataclass
class EchoCall:
    """Sends back what it is sent; breaks on request."""

    transport: Transport
    model: str
    extensions: frozenset[str]
    session: dict[str, Any]

    async def run(self) -> None:
        while (message := await self.transport.receive()) is not None:
            if message == "break":
                raise RuntimeError("broken on request")
            if message == "hang up":
                return
            await self.transport.send(f"{len(message)}:{message[:20]!r}")


@dataclass
class Running:
    """A server, the calls that it started, and how to talk to it."""

    host: str
    server: Server
    task: asyncio.Task[None]
    load: asyncio.Event
    calls: list[EchoCall] = field(default_factory=list)

    def call(self, path: str = "/v1/realtime", **options: Any) -> connect:
        return connect(f"ws://{self.host}{path}", ping_interval=None, **options)

    async def healthz(self) -> tuple[int, dict[str, Any]]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{self.host}/healthz")
        return answer.status_code, answer.json()

    async def no_calls(self) -> None:
        async with asyncio.timeout(10):
            while self.server.service.calls:  # noqa: ASYNC110  # seen from outside
                await asyncio.sleep(0.001)


@asynccontextmanager
async def running(*, loaded: bool = True, **settings: Any) -> AsyncIterator[Running]:
    ready = asyncio.Event()
    calls: list[EchoCall] = []

    async def load(config: Config, progress: Progress) -> Engines:
        progress("asr", 0.25)
        await ready.wait()
        return NamedEngines()  # type: ignore[return-value]

    def start(
        transport: Transport,
        engines: Engines,
        config: Config,
        *,
        model: str,
        extensions: frozenset[str],
        session: dict[str, Any],
    ) -> EchoCall:
        if model == "full":
            raise NoFreeSlot("no slot")
        calls.append(EchoCall(transport, model, extensions, session))
        return calls[-1]

    config = Config(server=ServerConfig(port=0, **settings))
    server = Server(config, create_app(config, load, start_call=start))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.001)
    if loaded:
        ready.set()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(f"127.0.0.1:{port}", server, task, ready, calls)
    finally:
        server.should_exit = True
        await task


async def closing(call: Any) -> tuple[int | None, str | None]:
    with suppress(ConnectionClosed):
        async with asyncio.timeout(10):
            async for _ in call:
                pass
    return call.close_code, call.close_reason


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/realtime/", "/openai/realtime"])
async def test_a_websocket_elsewhere_is_told_where_calls_are(path: str) -> None:
    async with running() as server:
        with pytest.raises(InvalidStatus) as refused:
            await server.call(f"{path}?model=x")
    response = refused.value.response
    assert response.status_code == 404
    message = json.loads(response.body or b"")["error"]["message"]
    assert message == f"expected a websocket at /v1/realtime, got one at {path}"


async def test_a_call_gets_what_its_url_says() -> None:
    async with running() as server:
        path = "/v1/realtime?model=gpt-realtime&ext=conch.1,x"
        async with server.call(path, subprotocols=["realtime", "other"]) as call:
            assert call.subprotocol == "realtime"
            await call.send("hi")
            assert await call.recv() == "2:'hi'"
            await call.send(b"hi")
            assert await call.recv() == "2:b'hi'"
            assert (await server.healthz())[1]["calls"] == 1
        async with server.call("/realtime") as call:
            assert call.subprotocol is None
            await call.send("hang up")
            assert (await closing(call))[0] == 1000
        await server.no_calls()
        assert [(c.model, c.extensions) for c in server.calls] == [
            ("gpt-realtime", {"conch.1", "x"}),
            ("", frozenset()),
        ]


async def test_the_key_is_asked_for_before_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(api_key=Secret(KEY)) as server:
        good: list[dict[str, Any]] = [
            {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
            {"additional_headers": {"api-key": KEY}},
            {"subprotocols": ["realtime", f"openai-insecure-api-key.{KEY}"]},
        ]
        for options in good:
            async with server.call(**options) as call:
                await call.send("hi")
                assert await call.recv() == "2:'hi'"
        bad: list[dict[str, Any]] = [
            {},
            {"additional_headers": {"Authorization": "Bearer wrong"}},
            {"subprotocols": ["realtime", "openai-insecure-api-key.wrong"]},
        ]
        for options in bad:
            with pytest.raises(InvalidStatus) as refused:
                await server.call(**options)
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"
        assert len(server.calls) == 3
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("websockets.client")]
    assert any("a call begins" in line for line in ours)
    assert not any(KEY in line for line in ours)


async def test_nobody_is_served_while_loading_and_a_foreign_page_never() -> None:
    async with running(loaded=False) as server:
        loading = {"status": "loading", "stage": "asr", "progress": 0.25}
        assert await server.healthz() == (503, loading)
        with pytest.raises(InvalidStatus) as refused:
            await server.call()
        assert refused.value.response.status_code == 503
        server.load.set()
        await server.server._app.state.loading
        status, health = await server.healthz()
        assert (status, health) == (
            200,
            {"status": "ok", "model": "fake", "tts": "fake-voice", "calls": 0},
        )
        with pytest.raises(InvalidStatus) as refused:
            await server.call(origin="http://evil.example")
        assert refused.value.response.status_code == 403


async def test_one_call_too_many_is_refused_at_once() -> None:
    async with running(max_calls=1) as server:
        async with server.call(), server.call() as refused:
            error = json.loads(await refused.recv())["error"]
            assert (error["type"], error["code"]) == ("server_error", "too_many_calls")
            code, reason = await closing(refused)
            assert code == 1013
            assert "all 1 calls" in (reason or "")
        await server.no_calls()
        async with server.call("/v1/realtime?model=full") as refused:
            assert json.loads(await refused.recv())["error"]["code"] == "too_many_calls"
        await server.no_calls()
        async with server.call() as call:
            await call.send("hi")
            assert await call.recv() == "2:'hi'"


async def test_bad_endings_leave_no_call_behind() -> None:
    async with running(max_frame_bytes=1024) as server:
        async with server.call() as call:
            await call.send("x" * 16_384)
            assert await call.recv() == f"16384:'{'x' * 20}'"
            await call.send("x" * 16_385)
            assert (await closing(call))[0] == 1009
        async with server.call() as call:
            await call.send("break")
            assert (await closing(call))[0] == 1011
        call = await server.call()
        await call.send("hi")
        await call.recv()
        call.transport.abort()
        await server.no_calls()


async def test_stopping_hangs_up() -> None:
    async with running() as server:
        async with server.call() as call:
            await call.send("hi")
            await call.recv()
            server.server.should_exit = True
            assert await closing(call) == (1001, "the server is stopping")
        await asyncio.wait_for(server.task, 2)


def test_models_that_cannot_be_loaded_end_the_server() -> None:
    config = Config(server=ServerConfig(port=0), vad=VadConfig(engine="nope"))
    with pytest.raises(LoadError, match='expected one of silero or "module:Class", got .nope.'):
        serve(config)


async def test_a_failure_to_load_is_told_until_the_end() -> None:
    async def load(config: Config, progress: Progress) -> Engines:
        raise LoadError("asr: no such file")

    app = create_app(Config(), load)
    async with app.router.lifespan_context(app):
        await app.state.loading
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://conch") as client:
            for path in ("/healthz", "/v1/models"):
                answer = await client.get(path)
                assert answer.status_code == 500
                assert "asr: no such file" in answer.text


def test_a_dotted_class_is_an_engine() -> None:
    assert engine_class("asr", "tests.fakes:FakeRecognizer").__name__ == "FakeRecognizer"
    with pytest.raises(LoadError, match="cannot load tests.fakes:Nope"):
        engine_class("asr", "tests.fakes:Nope")


async def test_stages_run_one_thing_at_a_time_and_know_when_they_are_busy() -> None:
    fakes = NamedEngines()
    engines = Engines(fakes.vad, fakes.endpointer, fakes.recognizer, fakes.synthesizer, fakes.llm)
    started, order = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[None] = loop.create_future()

    def first() -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(gate, 10), loop).result()
        order.append("first")

    running_first = asyncio.create_task(engines.run("asr", first))
    await started.wait()
    dropped = asyncio.create_task(engines.run("asr", lambda: order.append("dropped")))
    last = asyncio.create_task(engines.run("asr", lambda: order.append("last")))
    assert await engines.run("tts", lambda: 7) == 7
    assert engines.busy("asr")
    assert not engines.busy("tts")
    dropped.cancel()
    gate.set_result(None)
    await asyncio.gather(running_first, last)
    assert order == ["first", "last"]
    assert not engines.busy("asr")
    await engines.aclose()
