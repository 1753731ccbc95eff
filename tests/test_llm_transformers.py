"""The transformers engine with tiny models: random ones, and one that knows three lines."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from assistant.config import Config, LlmConfig
from assistant.engines import load_language_model
from llm.batching import Job
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
from llm.kvcache import Track
from llm.transformers import TransformersEngine, TransformersModel
from tests import tiny

GREEDY = Sampling(temperature=0.0, max_tokens=12)
SYSTEM = Message("system", "you talk of the weather")
ADD = Tool("add", "adds", {"type": "object", "properties": {"x": {"type": "integer"}}})
PLAIN = ("mixtral", "qwen2-moe", "qwen3-moe", "olmoe", "granite-moe")
STATEFUL = ("gpt-oss", "minimax", "minimax-linear-first", "lfm2-moe")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny.save(root / kind, kind) for kind in (*PLAIN, *STATEFUL)}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny.save(
        tmp_path_factory.mktemp("models") / "learnt", "qwen3-moe", initializer_range=0.02
    )
    return tiny.learn(path, LINES)


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[TransformersEngine]:
    engine = await asyncio.to_thread(TransformersEngine, path, threads=1, **options)
    try:
        yield engine
    finally:
        await engine.aclose()


def ask(*texts: str, tools: tuple[Tool, ...] = (), tool_choice: str = "auto") -> Prompt:
    """A conversation in which caller and assistant take turns."""
    roles = ("user", "assistant") * len(texts)
    said = (Message(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return Prompt((SYSTEM, *said), tools, tool_choice)


WEATHER, SUM = "weather of the fox", "the quick sum"
KNOWN = "the lazy dog jumps over 雨."
BESIDE = "a lazy dog\nand no call."
LINES = (
    (ask(WEATHER), KNOWN),
    (ask(WEATHER, tools=(ADD,)), BESIDE),
    (ask(SUM, tools=(ADD,)), '<tool_call>\n{"name": "add", "arguments": {"x": 2}}</tool_call>'),
)


async def answer(
    model: TransformersModel, prompt: Prompt, sampling: Sampling = GREEDY
) -> tuple[str, list[ToolCall], Finished]:
    parts = [part async for part in model.reply(prompt, sampling)]
    assert isinstance(parts[-1], Finished)
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    return text, [part for part in parts if isinstance(part, ToolCall)], parts[-1]


def reference(path: Path, prompt: Prompt, length: int) -> tuple[str, int]:
    """The likeliest reply of `length` tokens, each from a pass over all before it, and the
    prompt's length."""
    tokenizer = tiny.tokenizer()
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer.encode(text)
    ids = list(prompt_ids)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.inference_mode():
        while len(ids) < len(prompt_ids) + length and ids[-1] != tiny.STOP:
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tokenizer.decode(ids[len(prompt_ids) :], skip_special_tokens=True), len(prompt_ids)


@pytest.mark.parametrize("kind", [*PLAIN, *STATEFUL])
async def test_every_kind_streams_what_the_model_says(saved: dict[str, Path], kind: str) -> None:
    first = ask("the quick brown fox jumps over a lazy dog")
    async with running(saved[kind]) as engine:
        model = engine.open()
        await model.prefill(ask("the quick brown fox"))
        text, calls, finished = await answer(model, first)
        expected, length = reference(saved[kind], first, 12)
        assert (_complete(text), calls) == (_complete(expected), [])
        assert finished.input_tokens == length
        assert finished.cached_tokens >= length - 20
        assert finished.output_tokens == 12
        cut = ask("the quick brown fox jumps over a lazy dog", text[:4], "and the weather")
        again, _, second = await answer(model, cut)
        assert _complete(again) == _complete(reference(saved[kind], cut, 12)[0])
        assert second.cached_tokens >= length - 1


def _complete(text: str) -> str:
    """Without the broken characters at the end, which a stream holds back."""
    return text.rstrip("\ufffd")


@pytest.mark.parametrize("kind", STATEFUL)
async def test_states_are_kept_for_departures_from_several_points(
    saved: dict[str, Path], kind: str
) -> None:
    talk = ["the fox", "dog", "a lazy dog", "fox", "the quick user", "talk", "and the system"]
    async with running(saved[kind]) as engine:
        model = engine.open()
        for end in range(1, 8, 2):
            await model.prefill(ask(*talk[:end]))
        for end, kept in ((5, 3), (3, 1), (7, 1)):
            prompt = ask(*talk[: end - 1], "while the weather")
            text, _, finished = await answer(model, prompt)
            assert _complete(text) == _complete(reference(saved[kind], prompt, 12)[0])
            prefix = reference(saved[kind], ask(*talk[:kept]), 0)[1]
            assert finished.cached_tokens >= prefix - 12
        text, _, finished = await answer(model, Prompt((Message("user", "dog"),)))
        assert finished.cached_tokens == 0
        expected = reference(saved[kind], Prompt((Message("user", "dog"),)), 12)[0]
        assert _complete(text) == _complete(expected)


@pytest.mark.parametrize(("kind", "batch"), [("qwen3-moe", 3), ("minimax", 1)])
async def test_calls_together_say_what_they_say_alone(
    saved: dict[str, Path], kind: str, batch: int
) -> None:
    prompts = [ask("the fox"), ask("a lazy dog and a quick user talk"), ask("over the lazy dog")]
    widest, begin = 0, threading.Event()

    def measure(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal widest
        widest = max(widest, kwargs["input_ids"].shape[0])
        assert begin.wait(60)

    async with running(saved[kind], slots=3) as engine:
        engine.checkpoint.model.register_forward_pre_hook(measure, with_kwargs=True)
        models, batcher = [engine.open() for _ in prompts], engine._batcher
        with pytest.raises(NoFreeSlot):
            engine.open()
        for length in (60, 5):  # the second time over what the first has left in the caches
            sampling = [Sampling(0.0, length), Sampling(0.0, 40), Sampling(0.0, 50)]
            asked = zip(models, prompts, sampling, strict=True)
            widest = 0
            begin.clear()
            replies = asyncio.gather(*(answer(*what) for what in asked))
            # On a busy machine the first would else be over before the last is asked for.
            while len(batcher._jobs) + batcher._new.qsize() < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            begin.set()
            answers = await replies
            assert widest == batch
            for (text, _, finished), prompt, how in zip(answers, prompts, sampling, strict=True):
                assert finished.output_tokens >= 5
                expected = reference(saved[kind], prompt, how.max_tokens)[0]
                assert _complete(text) == _complete(expected)


@pytest.mark.parametrize("kind", ["mixtral", "gpt-oss", "minimax", "lfm2-moe"])
async def test_new_calls_find_the_instructions_read(saved: dict[str, Path], kind: str) -> None:
    prompts = [ask("the fox"), ask("a lazy dog and a quick user talk")]
    async with running(saved[kind]) as engine:
        first = engine.open()
        await first.prefill(ask(""))
        await first.close()
        models = [engine.open() for _ in prompts]
        answers = await asyncio.gather(*map(answer, models, prompts))
    for (text, _, finished), prompt in zip(answers, prompts, strict=True):
        expected, _ = reference(saved[kind], prompt, 12)
        assert _complete(text) == _complete(expected)
        instructions = reference(saved[kind], Prompt((SYSTEM,)), 0)[1] - 4
        assert finished.cached_tokens >= instructions


async def test_closing_a_reply_stops_it_and_the_next_is_right(saved: dict[str, Path]) -> None:
    path = saved["olmoe"]
    async with running(path, slots=1) as engine:
        model = engine.open()
        async with aclosing(model.reply(ask("the fox"), Sampling(0.0, 1500))) as parts:
            async for _ in parts:
                break
        assert model._track is not None
        assert len(model._track.tokens) < 300
        text, _, _ = await answer(model, ask("the dog"))
        assert _complete(text) == _complete(reference(path, ask("the dog"), 12)[0])
        await model.close()
        await model.close()
        with pytest.raises(LanguageModelError, match="the call is closed"):
            await model.prefill(ask("the dog"))
        engine.open()


async def test_a_cancelled_prefill_stops_between_chunks(saved: dict[str, Path]) -> None:
    long = ask("the lazy dog " * 300)
    async with running(saved["mixtral"]) as engine:
        model = engine.open()
        reading = asyncio.create_task(model.prefill(long))
        while model._track is None or not model._track.tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert model._track is not None
        assert 0 < len(model._track.tokens) < 800
        read = len(model._track.tokens)
        _, _, finished = await answer(model, long)
        assert finished.cached_tokens == read


async def test_a_reply_goes_before_what_is_only_read_ahead(saved: dict[str, Path]) -> None:
    async with running(saved["mixtral"]) as engine:
        ahead, model = engine.open(), engine.open()
        reading = asyncio.create_task(ahead.prefill(ask("the lazy dog " * 300)))
        while ahead._track is None or not ahead._track.tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await answer(model, ask("the quick fox"))
        assert not reading.done()
        read = len(ahead._track.tokens)
        await reading
        assert len(ahead._track.tokens) > read


async def test_a_line_known_by_heart_ends_at_its_stop_token(learnt: Path) -> None:
    async with running(learnt, name="parrot") as engine:
        assert engine.name == "parrot"
        model = engine.open()
        parts = [part async for part in model.reply(ask(WEATHER), Sampling(0.0, 99))]
        assert isinstance(parts[-1], Finished)
        texts = [part.text for part in parts if isinstance(part, TextDelta)]
        assert "".join(texts) == KNOWN
        assert "\ufffd" not in "|".join(texts)
        assert len(texts) > 5
        assert parts[-1].reason == "stop"
        text, _, finished = await answer(model, ask(WEATHER), Sampling(0.0, 3))
        assert (finished.reason, finished.output_tokens) == ("length", 3)
        assert KNOWN.startswith(text)
        drawn, _, _ = await answer(model, ask(WEATHER), Sampling(0.2, 99))
        assert drawn == KNOWN


@pytest.mark.parametrize("choice", ["auto", "required", "add"])
async def test_a_tool_is_called(learnt: Path, choice: str) -> None:
    async with running(learnt) as engine:
        text, calls, finished = await answer(
            engine.open(), ask(SUM, tools=(ADD,), tool_choice=choice), Sampling(0.0, 60)
        )
    assert text == ""
    assert [call.name for call in calls] == ["add"]
    assert json.loads(calls[0].arguments) == {"x": 2}
    assert finished.reason == "tool_calls"


async def test_a_reply_beside_tools_and_a_result_that_is_told(learnt: Path) -> None:
    async with running(learnt) as engine:
        model = engine.open()
        text, calls, finished = await answer(model, ask(WEATHER, tools=(ADD,)), Sampling(0.0, 60))
        assert (text, calls, finished.reason) == (BESIDE, [], "stop")
        made = ToolCall("z", "add", '{"x": 2}')
        told = Message("assistant", "", (made,)), Message("tool", "5", (), "z")
        shown = engine.checkpoint.render(Prompt((*ask(SUM).messages, *told), (ADD,)))
    assert '{"name": "add", "arguments": {"x": 2}}</tool_call>' in shown
    assert "<|start|>tool\n5<|end|>" in shown


async def test_what_does_not_fit_is_refused_and_the_call_goes_on(saved: dict[str, Path]) -> None:
    async with running(saved["olmoe"], context=64) as engine:
        model = engine.open()
        with pytest.raises(LanguageModelError, match="context of 64 tokens, got [0-9]{3}"):
            await answer(model, ask("the lazy dog " * 60))
        _, _, finished = await answer(model, ask("the fox"), Sampling(0.0, 500))
        assert finished.reason == "length"
        assert finished.input_tokens + finished.output_tokens == 64
        with pytest.raises(LanguageModelError, match="tool_choice is 'sub', but the tools are add"):
            await answer(model, ask("the fox", tools=(ADD,), tool_choice="sub"))


async def test_a_failing_model_ends_the_reply_and_not_the_engine(saved: dict[str, Path]) -> None:
    async with running(saved["olmoe"]) as engine:

        def refuse(module: Any, args: Any) -> None:
            raise RuntimeError("out of memory")

        handle = engine.checkpoint.model.model.layers[1].register_forward_pre_hook(refuse)
        model = engine.open()
        with pytest.raises(LanguageModelError, match="out of memory"):
            await answer(model, ask("the fox"))
        handle.remove()
        text, _, _ = await answer(model, ask("the fox"))
        assert _complete(text) == _complete(reference(saved["olmoe"], ask("the fox"), 12)[0])


async def test_a_step_that_fails_ends_its_jobs_and_not_the_thread(saved: dict[str, Path]) -> None:
    def choose(logits: torch.Tensor) -> int:
        raise KeyError("no such token")

    async with running(saved["olmoe"]) as engine:
        job = Job(Track(), [5, 6, 7], lambda _: False, limit=3, choose=choose)
        with pytest.raises(LanguageModelError, match="no such token"):
            await asyncio.to_thread(engine.run, job)
        text, _, _ = await answer(engine.open(), ask("the fox"))
        assert _complete(text) == _complete(reference(saved["olmoe"], ask("the fox"), 12)[0])
        batcher = engine._batcher
    late = Job(Track(), [5, 6, 7], lambda _: False)
    with pytest.raises(LanguageModelError, match="was closed"):
        await asyncio.to_thread(batcher.run, late)


async def test_closing_the_engine_ends_what_runs(saved: dict[str, Path]) -> None:
    engine = await asyncio.to_thread(TransformersEngine, saved["olmoe"], threads=1)
    parts = engine.open().reply(ask("the fox"), Sampling(0.0, 1500))
    await anext(parts)
    await engine.aclose()
    with pytest.raises(LanguageModelError, match="was closed"):
        async for _ in parts:
            pass


async def test_closing_frees_the_memory(saved: dict[str, Path]) -> None:
    engine = await asyncio.to_thread(TransformersEngine, saved["olmoe"], threads=1)
    weights = weakref.ref(engine.checkpoint.model)
    model = engine.open()
    await answer(model, ask("the fox"))
    assert model._track is not None
    cache = weakref.ref(model._track.cache)
    await model.close()
    gc.collect()
    assert cache() is None
    await engine.aclose()
    gc.collect()
    assert weights() is None


def test_the_configuration_names_the_engine_and_the_model(saved: dict[str, Path]) -> None:
    settings = LlmConfig(engine="transformers", model=str(saved["olmoe"]), context=300, threads=1)
    engine = load_language_model(Config(llm=settings))
    assert isinstance(engine, TransformersEngine)
    assert (engine.name, engine.context) == ("olmoe", 300)
    asyncio.run(engine.aclose())


def _bare(path: Path) -> Iterator[tuple[Path, str]]:
    yield path / "nothing", "expected the directory of a Hugging Face causal model"
    tiny.save(path / "mute", "qwen2")
    (path / "mute" / "chat_template.jinja").unlink()
    yield path / "mute", "expected a model with a chat template, got none"


def test_what_is_no_chat_model_is_named(tmp_path: Path) -> None:
    for path, message in _bare(tmp_path):
        with pytest.raises(LanguageModelError, match=message) as caught:
            TransformersEngine(path)
        assert str(path) in str(caught.value)


def test_the_server_does_without_torch() -> None:
    names = "assistant.server, assistant.session, assistant.engines, llm.openai, llm.llamacpp"
    look = f"import {names}, sys; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"
