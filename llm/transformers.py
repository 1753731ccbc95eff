"""Any Hugging Face causal language model, mixtures of experts among them, in this process.

Every call has a cache of its own (llm/kvcache.py); one thread takes all calls forward together
(llm/batching.py). Needs the extra `torch`.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from llm.batching import Batcher, Job, Read
from llm.checkpoint import Checkpoint, chooser
from llm.interfaces import (
    Finished,
    LanguageModelError,
    NoFreeSlot,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
)
from llm.kvcache import Track
from llm.streaming import BlockingStream, Receive, Work
from llm.tooltext import ToolTextParser, as_call, in_words, made_before
from llm.wire import END, allowed_tools, marked

_CHUNK, _BESIDE = 64, 16
"""Tokens of a prompt that a CPU reads at once: as many as a cancelled reading may go on for, and
while others decode as many as their next token may wait for. Measured on one thread of a busy
machine, random weights, float32, prompt tokens/s in chunks of 16, 64, 256: Qwen3-MoE, 512 wide,
12 layers, 16 experts: 200, 560, 890; dense Qwen2, 1024 wide, 12 layers: 70, 180, 180."""
_DEVICE_CHUNK = 512


@dataclass
class _Written:
    """How far a reply has come."""

    reason: Literal["stop", "length"] = "length"
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def finished(self, reason: Literal["stop", "length", "tool_calls"]) -> Finished:
        return Finished(reason, self.input_tokens, self.cached_tokens, self.output_tokens)


class TransformersEngine:
    """One model in memory, shared by `slots` calls of `context` tokens each."""

    def __init__(
        self, path: Path, *, slots: int = 2, context: int = 4096, threads: int = 2, name: str = ""
    ) -> None:
        """Load the model: seconds, blocking. Raises LanguageModelError."""
        self.name = name or path.name
        self.checkpoint = Checkpoint(path)
        self.context = min(context, self.checkpoint.context)
        on_cpu = self.checkpoint.device.type == "cpu"
        self._batcher = Batcher(
            self.checkpoint.model,
            chunk=_CHUNK if on_cpu else _DEVICE_CHUNK,
            beside=_BESIDE if on_cpu else _DEVICE_CHUNK,
            threads=threads,
        )
        self._free = slots
        self._executor = ThreadPoolExecutor(slots, thread_name_prefix="llm")

    def open(self) -> TransformersModel:
        if not self._free:
            raise NoFreeSlot(f"{self.name}: every slot of the model belongs to another call")
        self._free -= 1
        return TransformersModel(self)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._batcher.close)
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        del self.checkpoint
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()

    async def release(self, track: Track) -> None:
        try:
            await asyncio.to_thread(self._batcher.remember, track)
        finally:
            self._free += 1

    def stream(self, work: Work) -> BlockingStream:
        return BlockingStream(self._executor, work)

    def run(self, job: Job) -> None:
        """Blocks until the job is over. Raises LanguageModelError for a prompt too long."""
        if len(job.prompt) >= self.context:
            raise LanguageModelError(
                f"{self.name}: expected a prompt within the context of {self.context} tokens, "
                f"got {len(job.prompt)}"
            )
        job.limit = min(job.limit, self.context - len(job.prompt))
        self._batcher.run(job)


class TransformersModel:
    """One call's use of an engine."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine
        self._track: Track | None = Track()
        self._stream: BlockingStream | None = None

    async def prefill(self, prompt: Prompt) -> float | None:
        def work(receive: Receive) -> None:
            text = self._engine.checkpoint.render(marked(prompt), answered=False)
            tokens = self._engine.checkpoint.encode(text.rpartition(END)[0])
            if tokens:
                self._engine.run(Job(self._own_track(), tokens, receive))

        stream = await self._start(work)
        try:
            async for _ in stream:
                pass
        finally:
            await stream.stop()
        return None

    async def reply(
        self, prompt: Prompt, sampling: Sampling | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        sampling = sampling or Sampling()
        if prompt.tools and prompt.tool_choice not in {"auto", "none"}:
            parts = self._forced_call(prompt, sampling)
        else:
            parts = self._chat(prompt, sampling)
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None
        track, self._track = self._track, None
        if track is not None:
            await self._engine.release(track)

    def _own_track(self) -> Track:
        if self._track is None:
            raise LanguageModelError("the call is closed: its slot belongs to the engine again")
        return self._track

    async def _start(self, work: Work) -> BlockingStream:
        self._own_track()
        if self._stream is not None:
            await self._stream.stop()
        self._stream = self._engine.stream(work)
        return self._stream

    async def _chat(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[ReplyPart, None]:
        names = frozenset(tool.name for tool in prompt.tools)
        parser = ToolTextParser(names) if names and prompt.tool_choice == "auto" else None
        written = _Written()
        async with aclosing(self._generate(prompt, "", sampling, written)) as texts:
            async for text in texts:
                passed = parser.feed(text) if parser else text
                if passed:
                    yield TextDelta(passed)
                if parser and (parser.mentioned or parser.complete()):
                    break
        if parser and parser.mentioned:
            call = replace(prompt, tool_choice=parser.mentioned)
            async with aclosing(self._forced_call(call, sampling)) as parts:
                async for part in parts:
                    yield part
            return
        rest, calls = parser.finish() if parser else ("", [])
        if parser and (parser.invented or made_before(calls, prompt)):
            # Asked again without tools, it has to use words.
            async with aclosing(self._chat(in_words(prompt), sampling)) as answer:
                async for part in answer:
                    yield part
            return
        if rest:
            yield TextDelta(rest)
        for made in calls:
            yield made
        yield written.finished("tool_calls" if calls else written.reason)

    async def _forced_call(
        self, prompt: Prompt, sampling: Sampling
    ) -> AsyncGenerator[ReplyPart, None]:
        """A reply whose beginning is written for the model, so that it is one tool call."""
        tools = allowed_tools(prompt)
        names = frozenset(tool.name for tool in tools)
        written, opening = _Written(), _opening(tools)
        text = opening
        call: ToolCall | None = None
        async with aclosing(self._generate(prompt, opening, sampling, written)) as texts:
            async for more in texts:
                text += more
                if call := _call(text, names):
                    break
        if call is not None:
            yield call
        yield written.finished("tool_calls" if call else "length")

    async def _generate(
        self, prompt: Prompt, opening: str, sampling: Sampling, written: _Written
    ) -> AsyncGenerator[str, None]:
        """The text behind `opening`, in pieces; `written` is kept up to date."""
        checkpoint = self._engine.checkpoint
        choose = chooser(sampling.temperature, checkpoint.top_k, checkpoint.top_p)
        limit, stops = sampling.max_tokens, checkpoint.stops
        text = await asyncio.to_thread(checkpoint.render, prompt) + opening
        spoken = checkpoint.spoken(text)

        def work(receive: Receive) -> None:
            tokens = checkpoint.encode(text)
            written.input_tokens = len(tokens)
            self._engine.run(Job(self._own_track(), tokens, receive, limit, choose, stops))

        stream = await self._start(work)
        try:
            async for chunk in stream:
                if isinstance(chunk, Read):
                    written.cached_tokens = chunk.cached
                    continue
                written.output_tokens += 1
                if chunk in stops:
                    written.reason = "stop"
                elif more := spoken.feed(chunk):
                    yield more
            if rest := spoken.finish():
                yield rest
        finally:
            await stream.stop()


def _opening(tools: tuple[Tool, ...]) -> str:
    """How a call of one of `tools` begins, as Qwen's and most other templates have it."""
    # No space at the end: it would be a token of its own, which models do not write there.
    begun = f'"{tools[0].name}", "arguments":' if len(tools) == 1 else ""
    return f'<tool_call>\n{{"name": {begun}'.rstrip()


def _call(text: str, names: frozenset[str]) -> ToolCall | None:
    """The call in `text`, once it is complete."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except ValueError:
        return None
    return as_call(found, names)
