"""The OpenAI-compatible engine against a small fake server on loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from llm.interfaces import (
    Finished,
    LanguageModelError,
    Message,
    NoFreeSlot,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
)
from llm.openai import OpenAIEngine

KEY = "sk-very-secret"
HELLO = Prompt((Message("user", "hello"),))


@dataclass
class FakeServer:
    """Answers one request on each connection with `answer`, and keeps what was asked."""

    answer: bytes
    hang: bool = False
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    serving: list[asyncio.Task[Any]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self.serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self.serving.append(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        self.headers.append(head)
        self.requests.append(json.loads(await reader.readexactly(length)))
        writer.write(self.answer)
        if self.hang:
            await reader.read()
            self.gone.set()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def response(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}".encode()


def events(*chunks: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return response(": a comment\n\n" + "".join(lines) + ("data: [DONE]\n\n" if done else ""))


def delta(finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def tool_delta(index: int, **fields: object) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, **fields}])


async def collect(
    server: FakeServer, prompt: Prompt = HELLO, sampling: Sampling | None = None, **options: Any
) -> list[ReplyPart]:
    engine = OpenAIEngine(server.url, name="big", api_key=KEY, **options)
    model = engine.open()
    try:
        return [part async for part in model.reply(prompt, sampling)]
    finally:
        await model.close()
        await engine.aclose()


async def test_text_and_usage_come_back_and_the_request_is_complete() -> None:
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    chunks = [delta(role="assistant", content=None), delta(content="Hi"), delta(content=" you")]
    async with FakeServer(
        events(*chunks, delta("length"), {"choices": [], "usage": usage})
    ) as server:
        parts = await collect(server, sampling=Sampling(0.1, 9))
    assert parts == [TextDelta("Hi"), TextDelta(" you"), Finished("length", 7, 3, 2)]
    request = server.requests[0]
    assert request["messages"] == [{"role": "user", "content": "hello"}]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("big", 0.1, 9)
    assert "tools" not in request
    assert f"Bearer {KEY}" in server.headers[0]


async def test_tool_calls_in_pieces_are_put_together() -> None:
    chunks = [
        tool_delta(0, id="a", function={"name": "add", "arguments": ""}),
        tool_delta(0, function={"arguments": '{"x":'}),
        tool_delta(1, id="b", function={"name": "sub", "arguments": "{}"}),
        tool_delta(0, function={"arguments": " 1}"}),
        delta("tool_calls"),
    ]
    done = ToolCall("z", "add", '{"x": 0}')
    messages = (
        Message("user", "add"),
        Message("assistant", "", (done,)),
        Message("tool", "0", (), "z"),
    )
    async with FakeServer(events(*chunks)) as server:
        parts = await collect(server, Prompt(messages, (Tool("add"),), "add"))
    assert parts == [
        ToolCall("a", "add", '{"x": 1}'),
        ToolCall("b", "sub", "{}"),
        Finished("tool_calls"),
    ]
    request = server.requests[0]
    assert request["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    function = {"name": "add", "arguments": '{"x": 0}'}
    assert request["messages"][1]["tool_calls"] == [
        {"id": "z", "type": "function", "function": function}
    ]
    assert request["messages"][2] == {"role": "tool", "content": "0", "tool_call_id": "z"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(f'{{"error": "bad key {KEY}"}}', "401 Unauthorized"), r"answered 401: .*bad key"),
        (response("oh no", "500 Internal Server Error"), "answered 500: oh no"),
        (response("data: {nonsense\n\n"), "not JSON: {nonsense"),
        (events({"error": {"message": "overloaded"}}), "reported: .*overloaded"),
        (events(delta(content="Hi"), done=False), r"without \[DONE\]"),
    ],
)
async def test_a_failing_server_is_named_without_the_key(answer: bytes, reason: str) -> None:
    async with FakeServer(answer) as server:
        with pytest.raises(LanguageModelError, match=reason) as caught:
            await collect(server)
    assert server.url in str(caught.value)
    assert KEY not in str(caught.value)


async def test_a_server_that_is_not_there() -> None:
    async with FakeServer(b"") as server:
        pass
    with pytest.raises(LanguageModelError, match="cannot be reached"):
        await collect(server)


async def test_a_server_that_stalls() -> None:
    async with FakeServer(events(delta(content="Hi"), done=False), hang=True) as server:
        with pytest.raises(LanguageModelError, match="sent nothing for too long"):
            await collect(server, stall=0.05)


async def test_closing_the_reply_drops_the_connection() -> None:
    async with FakeServer(events(delta(content="Hi"), done=False), hang=True) as server:
        engine = OpenAIEngine(server.url, name="big")
        async with aclosing(engine.open().reply(HELLO)) as parts:
            assert await anext(parts) == TextDelta("Hi")
        await asyncio.wait_for(server.gone.wait(), 10)
        await engine.aclose()


async def test_slots_are_counted() -> None:
    engine = OpenAIEngine("http://127.0.0.1:9", name="big", slots=1)
    model = engine.open()
    with pytest.raises(NoFreeSlot):
        engine.open()
    await model.close()
    await model.close()
    engine.open()
    with pytest.raises(NoFreeSlot):
        engine.open()
    await engine.aclose()
