"""GGUF models in this process, by llama.cpp's own server object (package `xllamacpp`).

Every call owns one cache slot for as long as it lasts, so that a reply reads only what the
slot has not seen. The batch size settles how long one call's prompt holds up the tokens of
another, because llama.cpp adds one token of every running reply to each batch. Measured with
Qwen2.5-Coder-1.5B Q4_K_M on two cores, 350 prompt tokens beside another slot's reply:

    batch               8     16     32     64    128    512
    prompt, tokens/s   38     53     61     71     66     44-70
    token gap, ms     202    373    589    897   1970   5680
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import re
import secrets
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llm.gguf import load, params
from llm.interfaces import (
    Finished,
    LanguageModelError,
    Message,
    NoFreeSlot,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
    ToolCall,
)
from llm.prefixes import Prefixes
from llm.streaming import BlockingStream, Receive, Work
from llm.tooltext import ToolTextParser, as_call, in_words, made_before
from llm.wire import END, Json, ToolCallDeltas, allowed_tools, encode_prompt, marked

_LIKELIEST = 40
"""Tokens whose probabilities are asked for; the others hardly add to them."""
_MARKS = " .,!?;:…。，！？、；：—–-"
_ENDING = re.compile(r"\s*[.?!。？！](?!\.)|\s*\n|<\||$")
"""Tokens after which a message or a sentence is over: a mark, a new line, a control token."""
_VARIED: Json = {
    "dry_multiplier": 0.8,
    "dry_allowed_length": 4,
    "dry_sequence_breakers": ["\n"],
}
"""Makes a token that would go on with a run of more than four of the prompt's ever less likely
(DRY, github.com/oobabooga/text-generation-webui/pull/5677): a small model that tells a story back,
or asks the same question once, goes on to do it for ever. Every breaker delays the first token by
10 ms."""
_HURRY = 12
"""Pieces of text at the beginning of a reply that someone waits for: its first clause."""


class LlamaCppEngine:
    """One model in memory, shared by `slots` calls of `context` tokens each."""

    def __init__(
        self, path: Path, *, slots: int = 2, context: int = 4096, threads: int = 2, name: str = ""
    ) -> None:
        """Load the model: seconds, blocking. Raises LanguageModelError."""
        self.name = name or path.stem
        self.context = context
        self._key = secrets.token_hex(16)
        self.prefixes = Prefixes(self._slot_action)
        settings = params(path, slots, context, threads, self._key)
        settings.slot_save_path = self.prefixes.directory
        self._server = load(path, settings)
        self._address = urlsplit(self._server.listening_address).netloc
        self._free = set(range(slots))
        self._hurried = 0
        self.calm = asyncio.Event()
        """Set while no call waits for the beginning of its reply."""
        self.calm.set()
        self._executor = ThreadPoolExecutor(slots, thread_name_prefix="llm")

    def open(self) -> LlamaCppModel:
        if not self._free:
            raise NoFreeSlot(f"{self.name}: every slot of the model belongs to another call")
        slot = min(self._free)
        self._free.remove(slot)
        return LlamaCppModel(self, slot)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._server = None
        self.prefixes.close()

    def release(self, slot: int) -> None:
        self._free.add(slot)

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Keep other calls from reading ahead."""
        self._hurried += 1
        self.calm.clear()
        try:
            yield
        finally:
            self._hurried -= 1
            if not self._hurried:
                self.calm.set()

    def stream(self, work: Work) -> BlockingStream:
        return BlockingStream(self._executor, work)

    def chat(self, request: Json, receive: Receive) -> None:
        """Blocks; `receive` gets each chunk and stops the generation by returning True."""
        self._server.handle_chat_completions(request, receive)

    def complete(self, request: Json, receive: Receive) -> None:
        self._server.handle_completions(request, receive)

    def render(self, request: Json) -> str:
        """The prompt as the model's own chat template writes it. Blocks for about 2 ms."""
        answer = self._post("/apply-template", request)
        if "prompt" not in answer:
            raise LanguageModelError(f"{self.name}: the chat template failed: {_reason(answer)}")
        return str(answer["prompt"])

    def _slot_action(self, slot: int, action: str, filename: str) -> None:
        answer = self._post(f"/slots/{slot}?action={action}", {"filename": filename})
        if "error" in answer:
            raise LanguageModelError(f"{self.name}: slot {action} failed: {_reason(answer)}")

    def _post(self, path: str, request: Json) -> Json:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(request), headers)
            answer: Json = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer


class LlamaCppModel:
    """One call's slot of an engine."""

    def __init__(self, engine: LlamaCppEngine, slot: int) -> None:
        self._engine = engine
        self._slot: int | None = slot
        self._stream: BlockingStream | None = None
        self._begun: tuple[object, ...] = ()
        """The instructions and tools with which the slot's cache begins."""

    async def prefill(self, prompt: Prompt) -> float | None:
        request = encode_prompt(marked(prompt))
        mark = _final_mark(prompt)

        def work(receive: Receive) -> None:
            text, found, _ = self._engine.render(request).rpartition(END)
            if found and self._begin(prompt, receive):
                words = text.removesuffix(mark)
                rating = {"n_predict": 1, "logprobs": _LIKELIEST, "temperature": 0}
                self._engine.complete(self._request(prompt=words, **rating), receive)

        read, ends = False, None
        while not read:
            await self._engine.calm.wait()
            read, ends = await self._read(work)
        return ends

    def _begin(self, prompt: Prompt, receive: Receive) -> bool:
        """Have the slot begin with the prompt's instructions; False when told to stop. Blocks."""
        first = next(iter(prompt.messages), None)
        begun = (first, prompt.tools, prompt.tool_choice)
        if not first or first.role != "system" or begun == self._begun or self._slot is None:
            return True
        bare = replace(prompt, messages=(first, Message("user", "")))
        prefix, found, _ = self._engine.render(encode_prompt(marked(bare))).rpartition(END)
        if found and not self._engine.prefixes.restore(self._slot, prefix):
            stopped = False

            def heed(chunk: Json) -> bool:
                nonlocal stopped
                stopped = bool(receive(chunk))
                return stopped

            self._engine.complete(self._request(prompt=prefix, n_predict=0), heed)
            if stopped:
                return False
            self._engine.prefixes.save(self._slot, prefix)
        self._begun = begun
        return True

    async def _read(self, work: Work) -> tuple[bool, float | None]:
        """Whether all was read, or it stopped for another call's reply (the cache keeps what it
        has read); and P(a sentence ends there)."""
        ends = None
        stream = await self._start(work)
        try:
            async for chunk in stream:
                self._check(chunk)
                ends = _ends(chunk) if ends is None else ends
                if not self._engine.calm.is_set():
                    return False, None
        finally:
            await stream.stop()
        return True, ends

    async def reply(
        self, prompt: Prompt, sampling: Sampling | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        sampling = sampling or Sampling()
        names = frozenset(tool.name for tool in prompt.tools)
        if prompt.tools and prompt.tool_choice not in {"auto", "none"}:
            parts = self._forced_call(prompt, sampling)
        else:
            parts = self._chat(prompt, sampling, names if prompt.tool_choice == "auto" else None)
        with ExitStack() as hurry:
            hurry.enter_context(self._engine.hurry())
            async with aclosing(parts):
                texts = 0
                async for part in parts:
                    yield part
                    texts += isinstance(part, TextDelta)
                    if texts == _HURRY:
                        hurry.close()

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.stop()
        if self._slot is not None:
            self._engine.release(self._slot)
            self._slot = None

    async def _start(self, work: Work) -> BlockingStream:
        if self._slot is None:
            raise LanguageModelError("the call is closed: its slot belongs to the engine again")
        if self._stream is not None:
            await self._stream.stop()
        self._stream = self._engine.stream(work)
        return self._stream

    def _request(self, **more: object) -> Json:
        # Progress chunks are what lets a long prompt be cancelled between two batches.
        slot = {"id_slot": self._slot, "cache_prompt": True}
        return {**slot, "stream": True, "return_progress": True, **more}

    def _check(self, chunk: Any) -> None:
        if "error" in chunk:
            raise LanguageModelError(f"{self._engine.name}: {_reason(chunk)}")

    async def _chat(
        self, prompt: Prompt, sampling: Sampling, names: frozenset[str] | None
    ) -> AsyncGenerator[ReplyPart, None]:
        request = self._request(
            **encode_prompt(prompt),
            tool_choice=prompt.tool_choice,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            **({**_VARIED, "dry_penalty_last_n": self._engine.context} if sampling.varied else {}),
        )
        reading = _ChatReading(names)
        stream = await self._start(lambda receive: self._engine.chat(request, receive))
        try:
            async for chunk in stream:
                self._check(chunk)
                text = reading.feed(chunk)
                if text:
                    yield TextDelta(text)
                if reading.over:
                    break
        finally:
            await stream.stop()
        if reading.mentioned:
            call = replace(prompt, tool_choice=reading.mentioned)
            async with aclosing(self._forced_call(call, sampling)) as forced:
                async for part in forced:
                    yield part
            return
        parts = reading.finish()
        if reading.invented or made_before([p for p in parts if isinstance(p, ToolCall)], prompt):
            # Asked again without tools, it has to use words.
            async with aclosing(self._chat(in_words(prompt), sampling, None)) as answer:
                async for part in answer:
                    yield part
            return
        for part in parts:
            yield part

    async def _forced_call(
        self, prompt: Prompt, sampling: Sampling
    ) -> AsyncGenerator[ReplyPart, None]:
        """A reply that the grammar holds to one call of an allowed tool."""
        template = encode_prompt(prompt)
        request = self._request(
            json_schema=_call_schema(prompt),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
        )

        def work(receive: Receive) -> None:
            self._engine.complete({**request, "prompt": self._engine.render(template)}, receive)

        written, last = "", Json()
        stream = await self._start(work)
        try:
            async for chunk in stream:
                self._check(chunk)
                written += chunk["choices"][0].get("text") or ""
                last = chunk
        finally:
            await stream.stop()
        try:
            call = as_call(json.loads(written), frozenset(t.name for t in prompt.tools))
        except ValueError:
            call = None
        if call is not None:
            yield call
        yield _finished(last, "tool_calls" if call else "length")


class _ChatReading:
    """What the chunks of one streamed chat completion amount to."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self.over = False
        self.mentioned = ""
        self.invented = False
        self._parser = ToolTextParser(names) if names else None
        self._deltas = ToolCallDeltas()
        self._last: Json = {}
        self._reason = "stop"
        self._tokens = 0

    def feed(self, chunk: Json) -> str:
        """The text that may be passed on."""
        self._last = chunk
        choice: Json = next(iter(chunk.get("choices", ())), {})
        self._reason = choice.get("finish_reason") or self._reason
        delta = choice.get("delta", {})
        self._deltas.add(delta.get("tool_calls") or [])
        text: str = delta.get("content") or ""
        if self._parser is None or not text:
            return text
        text = self._parser.feed(text)
        self.mentioned = self._parser.mentioned
        self.over = bool(self.mentioned) or self._parser.complete()
        return text

    def finish(self) -> list[ReplyPart]:
        calls: list[ToolCall] = self._deltas.finish()
        parts: list[ReplyPart] = []
        if self._parser is not None:
            text, written = self._parser.finish()
            calls += written
            self.invented = self._parser.invented and not calls
            if text:
                parts.append(TextDelta(text))
        reason = "tool_calls" if calls else self._reason
        return [*parts, *calls, _finished(self._last, reason)]


def _final_mark(prompt: Prompt) -> str:
    """The punctuation after the caller's last word: the recogniser's guess, not the caller's."""
    said = prompt.messages[-1].content.rstrip() if prompt.messages else ""
    return said[len(said.rstrip(_MARKS)) :] if said.strip(_MARKS) else ""


def _ends(chunk: Json) -> float | None:
    """P(a sentence ends) of a chunk with the likeliest tokens; None for other chunks."""
    choice: Json = next(iter(chunk.get("choices", ())), {})
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if not tokens:
        return None
    likely: list[Json] = tokens[0]["top_logprobs"]
    return sum(math.exp(each["logprob"]) for each in likely if _ENDING.match(each["token"]))


def _call_schema(prompt: Prompt) -> Json:
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": tool.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
        }
        for tool in allowed_tools(prompt)
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _finished(last: Json, reason: str) -> Finished:
    timings = last.get("timings", {})
    cached = timings.get("cache_n", 0)
    return Finished(
        reason if reason in {"length", "tool_calls"} else "stop",  # type: ignore[arg-type]
        input_tokens=cached + timings.get("prompt_n", 0),
        cached_tokens=cached,
        output_tokens=timings.get("predicted_n", 0),
    )


def _reason(answer: Json) -> str:
    error = answer.get("error", answer)
    return str(error.get("message", error) if isinstance(error, dict) else error)
