"""A language model behind any OpenAI-compatible server: `POST {url}/chat/completions`, streamed.

The server keeps its own cache, so there is nothing to read ahead here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache

import httpx

from llm.interfaces import (
    Finished,
    LanguageModelError,
    NoFreeSlot,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
)
from llm.wire import Json, ToolCallDeltas, encode_prompt, encode_tool_choice

_SHOWN = 300
"""Characters of a server's error that go into a message."""


class OpenAIEngine:
    """`slots` calls at a time to the model `name` of the server at `url` (up to its /v1)."""

    def __init__(
        self, url: str, *, name: str, api_key: str = "", slots: int = 16, stall: float = 30.0
    ) -> None:
        """`stall`: seconds without a byte from the server that end a reply."""
        self.name = name
        self._url = url.rstrip("/") + "/chat/completions"
        self._key = api_key
        self._free = slots
        timeout = httpx.Timeout(stall, connect=min(stall, 5.0))
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=slots)
        self._client = httpx.AsyncClient(
            headers=headers, timeout=timeout, limits=limits, verify=_tls()
        )

    def open(self) -> OpenAIModel:
        if not self._free:
            raise NoFreeSlot(f"{self.name}: as many calls as configured use the model already")
        self._free -= 1
        return OpenAIModel(self)

    async def aclose(self) -> None:
        await self._client.aclose()

    def release(self) -> None:
        self._free += 1

    async def stream(self, request: Json) -> AsyncGenerator[Json, None]:
        """The chunks of one streamed chat completion. Raises LanguageModelError."""
        try:
            async with self._client.stream("POST", self._url, json=request) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    raise self._failed(f"answered {response.status_code}: {response.text}")
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        data = line.removeprefix("data:").strip()
                        if data == "[DONE]":
                            return
                        yield self._decode(data)
        except httpx.TimeoutException as error:
            raise self._failed("sent nothing for too long") from error
        except httpx.HTTPError as error:
            raise self._failed(f"cannot be reached: {error}") from error
        raise self._failed("ended the reply without [DONE]")

    def _decode(self, data: str) -> Json:
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise self._failed(f"sent an event that is not JSON: {data}") from error
        if not isinstance(chunk, dict) or "error" in chunk:
            raise self._failed(f"reported: {data}")
        return chunk

    def _failed(self, what: str) -> LanguageModelError:
        what = " ".join(what.split())
        if self._key:
            what = what.replace(self._key, "***")
        return LanguageModelError(f"the model server at {self._url} {what[:_SHOWN]}")


class OpenAIModel:
    """One call's use of the server."""

    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine = engine
        self._open = True

    async def prefill(self, prompt: Prompt) -> float | None:
        """Nothing: a request only to warm the server's cache may cost money."""
        del prompt
        return None

    async def reply(
        self, prompt: Prompt, sampling: Sampling | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        sampling = sampling or Sampling()
        request = {
            "model": self._engine.name,
            **encode_prompt(prompt),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
        }
        if prompt.tools:
            request["tool_choice"] = encode_tool_choice(prompt.tool_choice)
        calls = ToolCallDeltas()
        reason, usage = "stop", Json()
        async with aclosing(self._engine.stream(request)) as chunks:
            async for chunk in chunks:
                usage = chunk.get("usage") or usage
                choice: Json = next(iter(chunk.get("choices") or ()), {})
                reason = choice.get("finish_reason") or reason
                delta: Json = choice.get("delta") or {}
                calls.add(delta.get("tool_calls") or [])
                if delta.get("content"):
                    yield TextDelta(delta["content"])
        made = calls.finish()
        for call in made:
            yield call
        yield _finished("tool_calls" if made else reason, usage)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._engine.release()


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _finished(reason: str, usage: Json) -> Finished:
    details = usage.get("prompt_tokens_details") or {}
    return Finished(
        reason if reason in {"length", "tool_calls"} else "stop",  # type: ignore[arg-type]
        input_tokens=usage.get("prompt_tokens", 0),
        cached_tokens=details.get("cached_tokens") or 0,
        output_tokens=usage.get("completion_tokens", 0),
    )
