"""POST /v1/chat/completions: the language model alone, in the OpenAI shape."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from assistant.engines import Engines
from assistant.http_common import ApiError, limited, while_connected
from assistant.metrics import wall
from llm.interfaces import (
    Finished,
    LanguageModel,
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

_BODY_BYTES = 4_194_304
_PATIENCE = 2.0
"""Seconds that a request waits for the one before it."""


class _Function(Struct):
    name: str
    arguments: str = "{}"


class _Call(Struct):
    id: str
    function: _Function


class _TextPart(Struct, tag_field="type", tag="text"):
    text: str


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_TextPart] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str = ""


class _FunctionDefinition(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    type: Literal["function"]
    function: _FunctionDefinition


class _NamedFunction(Struct):
    name: str


class _NamedTool(Struct):
    type: Literal["function"]
    function: _NamedFunction


class _StreamOptions(Struct):
    include_usage: bool = False


class ChatRequest(Struct):
    """Fields that this server has no use for are ignored, as are unknown model names."""

    messages: Annotated[list[_Message], Meta(min_length=1)]
    model: str = ""
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Literal[1] | None = 1
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _NamedTool | None = None

    def prompt(self) -> Prompt:
        tools = tuple(
            Tool(t.function.name, t.function.description or "", t.function.parameters or {})
            for t in self.tools or ()
        )
        messages = tuple(map(_message, self.messages))
        if not isinstance(self.tool_choice, _NamedTool):
            return Prompt(messages, tools, self.tool_choice or "auto")
        named = self.tool_choice.function.name
        if named not in {tool.name for tool in tools}:
            message = f"expected the name of one of the tools, got {named!r}"
            raise ApiError(400, message, param="tool_choice")
        return Prompt(messages, tools, named)

    def sampling(self, default: Sampling) -> Sampling:
        return Sampling(
            default.temperature if self.temperature is None else self.temperature,
            self.max_completion_tokens or self.max_tokens or default.max_tokens,
        )


async def chat_completions(request: Request) -> Response:
    service = request.app.state.service
    service.access.check(request.headers)
    engines: Engines = service.ready()
    body = await limited(request, _BODY_BYTES).body()
    try:
        asked = msgspec.json.decode(body, type=ChatRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"expected a chat completion request: {error}") from error
    settings = service.config.llm
    sampling = asked.sampling(Sampling(settings.temperature, settings.max_tokens))
    answer = _Answer(engines.llm.name)
    parts = _reply(service.chat_slot, engines, asked.prompt(), sampling)
    if not asked.stream:
        return JSONResponse(await while_connected(request, answer.whole(parts)))
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    # The first part is awaited here, so that a failure before it still has its own status.
    first = await while_connected(request, anext(parts))
    events = answer.events(first, parts, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream")


async def _reply(
    slot: asyncio.Semaphore, engines: Engines, prompt: Prompt, sampling: Sampling
) -> AsyncGenerator[ReplyPart, None]:
    """The model's reply, in the slot that calls leave free. Raises ApiError."""
    async with _model(slot, engines) as model:
        try:
            async with aclosing(model.reply(prompt, sampling)) as parts:
                async for part in parts:
                    yield part
        except LanguageModelError as error:
            too_long = "context size" in str(error)
            code = "context_length_exceeded" if too_long else "model_failed"
            raise ApiError(400 if too_long else 500, str(error), code=code) from error


@asynccontextmanager
async def _model(slot: asyncio.Semaphore, engines: Engines) -> AsyncIterator[LanguageModel]:
    busy = ApiError(429, "another request is using the language model", code="model_busy")
    try:
        await asyncio.wait_for(slot.acquire(), _PATIENCE)
    except TimeoutError:
        raise busy from None
    try:
        try:
            model = engines.llm.open()
        except NoFreeSlot:
            raise busy from None
        try:
            yield model
        finally:
            await model.close()
    finally:
        slot.release()


class _Answer:
    """One reply, put into the shape of a completion or of a stream of chunks."""

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(wall()),
            "model": model,
        }

    async def whole(self, parts: AsyncGenerator[ReplyPart, None]) -> dict[str, Any]:
        text, calls, finished = "", [], Finished("stop")
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case TextDelta(piece):
                        text += piece
                    case ToolCall():
                        calls.append(_call(part))
                    case Finished():
                        finished = part
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        elif not text:
            message["content"] = ""
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finished.reason,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(finished),
        }

    async def events(
        self, first: ReplyPart, parts: AsyncGenerator[ReplyPart, None], *, usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = 0
        async with aclosing(parts):
            try:
                part: ReplyPart | None = first
                while part is not None:
                    match part:
                        case TextDelta(text):
                            yield self._chunk({"content": text})
                        case ToolCall():
                            yield self._chunk({"tool_calls": [{"index": calls, **_call(part)}]})
                            calls += 1
                        case Finished():
                            yield self._chunk({}, part.reason)
                            if usage:
                                yield self._event({"choices": [], "usage": _usage(part)})
                    part = await anext(parts, None)
            except ApiError as error:
                yield f"data: {json.dumps(error.body())}\n\n"
                return
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._event({"choices": [choice]})

    def _event(self, fields: dict[str, Any]) -> str:
        chunk = {**self._head, "object": "chat.completion.chunk", **fields}
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _message(given: _Message) -> Message:
    role = "system" if given.role == "developer" else given.role
    content = given.content or ""
    if not isinstance(content, str):
        content = "".join(part.text for part in content)
    calls = tuple(
        ToolCall(c.id, c.function.name, c.function.arguments) for c in given.tool_calls or ()
    )
    return Message(role, content, calls, given.tool_call_id)


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _usage(finished: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": finished.input_tokens,
        "completion_tokens": finished.output_tokens,
        "total_tokens": finished.input_tokens + finished.output_tokens,
        "prompt_tokens_details": {"cached_tokens": finished.cached_tokens},
    }
