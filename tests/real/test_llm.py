"""llama.cpp with the small model: answers, cache, cancelling, slots and tools."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from assistant.models import locate
from llm.interfaces import (
    Finished,
    LanguageModelError,
    Message,
    NoFreeSlot,
    Prompt,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
)
from llm.llamacpp import LlamaCppEngine, LlamaCppModel

SYSTEM = Message("system", "You are a voice assistant. Answer in one short sentence.")
GREEDY = Sampling(temperature=0.0, max_tokens=40)
WEATHER = Tool(
    "get_weather",
    "Weather now in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
LONG = " ".join(f"Line {number} is about nothing." for number in range(200))


@pytest.fixture
async def engine() -> AsyncIterator[LlamaCppEngine]:
    engine = await asyncio.to_thread(LlamaCppEngine, locate("qwen2.5-coder-0.5b"), slots=2)
    yield engine
    await engine.aclose()


def ask(*texts: str, tools: tuple[Tool, ...] = (), tool_choice: str = "auto") -> Prompt:
    """A conversation in which caller and assistant take turns."""
    roles = ("user", "assistant") * len(texts)
    said = (Message(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return Prompt((SYSTEM, *said), tools, tool_choice)


async def answer(model: LlamaCppModel, prompt: Prompt) -> tuple[str, list[ToolCall], Finished]:
    parts = [part async for part in model.reply(prompt, GREEDY)]
    assert isinstance(parts[-1], Finished)
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    return text, [part for part in parts if isinstance(part, ToolCall)], parts[-1]


async def test_answers_and_remembers(engine: LlamaCppEngine) -> None:
    model = engine.open()
    question = "What is the capital of France?"
    text, calls, first = await answer(model, ask(question))
    assert "Paris" in text
    assert not calls
    assert first.reason == "stop"
    _, _, second = await answer(model, ask(question, text, "And of Spain?"))
    assert second.cached_tokens >= first.input_tokens + first.output_tokens - 2


async def test_a_varied_reply_does_not_say_back_what_was_told(engine: LlamaCppEngine) -> None:
    model = engine.open()
    told = "My father mended fishing nets and my mother sold bread at the market."
    prompt = ask("We had a cat.", "We had a cat.", "It was black.", "It was black.", told)
    plain, _, _ = await answer(model, prompt)
    assert told in plain
    sampling = replace(GREEDY, varied=True)
    parts = [part async for part in model.reply(prompt, sampling)]
    varied = "".join(part.text for part in parts if isinstance(part, TextDelta))
    assert varied
    assert "sold bread at the market" not in varied


async def test_a_prefilled_turn_reads_only_its_tail(engine: LlamaCppEngine) -> None:
    model = engine.open()
    await model.prefill(ask(""))
    await model.prefill(ask("What is the capital"))
    _, _, finished = await answer(model, ask("What is the capital of France?"))
    assert finished.input_tokens - finished.cached_tokens <= 10
    heard = ask("What is the capital of France?", "The", "Sorry, of Spain?")
    _, _, after_interruption = await answer(model, heard)
    assert after_interruption.cached_tokens >= finished.input_tokens


async def test_closing_a_reply_frees_the_slot_at_once(engine: LlamaCppEngine) -> None:
    model = engine.open()
    loop = asyncio.get_running_loop()
    story = ask("Tell me a very long story.")
    async with aclosing(model.reply(story, Sampling(0.0, 1500))) as parts:
        for _ in range(5):
            await anext(parts)
        closed = loop.time()
    assert loop.time() - closed < 0.5
    assert "Paris" in (await answer(model, ask("What is the capital of France?")))[0]


async def test_a_cancelled_prefill_stops_between_batches(engine: LlamaCppEngine) -> None:
    model = engine.open()
    reading = asyncio.create_task(model.prefill(ask(LONG)))
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    cancelled = loop.time()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert loop.time() - cancelled < 1.5
    text, _, finished = await answer(model, ask("What is the capital of France?"))
    assert "Paris" in text
    assert finished.input_tokens < 100


async def test_two_slots_answer_at_once_and_there_is_no_third(engine: LlamaCppEngine) -> None:
    first, second = engine.open(), engine.open()
    with pytest.raises(NoFreeSlot):
        engine.open()
    answers = await asyncio.gather(
        answer(first, ask("What is the capital of France?")),
        answer(second, ask("What is the capital of Italy?")),
    )
    assert "Paris" in answers[0][0]
    assert "Rome" in answers[1][0]
    await first.close()
    await first.close()
    engine.open()
    with pytest.raises(NoFreeSlot):
        engine.open()


@pytest.mark.parametrize("choice", ["auto", "required", "get_weather"])
async def test_a_tool_is_called(engine: LlamaCppEngine, choice: str) -> None:
    prompt = ask("What is the weather in Paris?", tools=(WEATHER,), tool_choice=choice)
    _, calls, finished = await answer(engine.open(), prompt)
    assert [call.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].arguments) == {"city": "Paris"}
    assert finished.reason == "tool_calls"


async def test_a_prompt_over_the_context_is_refused_and_the_slot_goes_on(
    engine: LlamaCppEngine,
) -> None:
    model = engine.open()
    with pytest.raises(LanguageModelError, match="exceeds the available context size"):
        await answer(model, ask(LONG * 5))
    assert "Paris" in (await answer(model, ask("What is the capital of France?")))[0]


_BESIDE_A_BUSY_CORE = r"""
import asyncio, os, subprocess, sys, time
from contextlib import aclosing
from dataclasses import replace
from assistant.models import locate
from llm.interfaces import Message, Prompt, Sampling
from llm.llamacpp import LlamaCppEngine

async def main():
    engine = LlamaCppEngine(locate("qwen2.5-coder-0.5b"), slots=1, threads=2)
    cores = len(os.sched_getaffinity(0)) - 1
    work = "import time; end = time.time() + 50\nwhile time.time() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", work]) for _ in range(cores)]
    story = Prompt((Message("user", "Tell me a very long story."),))
    times = []
    async with aclosing(engine.open().reply(story, Sampling(0.0, 12))) as parts:
        async for _ in parts:
            times.append(time.perf_counter())
            if times[-1] - times[0] > 10:
                break
    for each in busy:
        each.kill()
        each.wait()
    await engine.aclose()
    print((times[-1] - times[0]) / (len(times) - 1))

asyncio.run(main())
"""


def test_another_program_on_all_cores_but_one_does_not_silence_it() -> None:
    # In a process of its own: the OpenMP library reads its settings once, when it is loaded.
    command = [sys.executable, "-c", _BESIDE_A_BUSY_CORE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert float(done.stdout) < 0.3  # seconds a token; about three words a second are spoken
