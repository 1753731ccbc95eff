"""How fast GGUF models are in this project's engine, each in a process of its own, by turns."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from assistant.metrics import clock
from llm.interfaces import Finished, Message, Prompt, Sampling
from llm.llamacpp import LlamaCppEngine, LlamaCppModel
from llm.moe.lessons import TAUGHT

_SYSTEM = Message("system", TAUGHT)
_TALK = (
    "Hi, I'm planning a weekend by the sea and would like some ideas.",
    "That sounds lovely! Do you prefer a quiet beach or a town with things to see?",
    "A small town would be nice, with a good market.",
    "Then look for one with a harbour: the fish market is best early in the morning.",
    "Good idea. What should I pack for two days?",
    "A light jacket, a hat and good shoes, because the wind can be fresh in the evening.",
    "And what can we do if it rains?",
    "You could visit a museum, or sit in a cafe and read. A board game helps as well.",
    "My daughter likes animals.",
    "Then an aquarium would be perfect for her. Many harbour towns have a small one.",
)
_QUESTIONS = (
    "Which fish could we buy and cook there?",
    "How early should we be at the market?",
    "What would you take along for the little one?",
    "Is it better to go there by train or by car?",
    "What do people usually eat for breakfast by the sea?",
    "How long does it take to see an aquarium?",
)
_STORY = "Tell me a very long story about a lighthouse keeper and his cat, with many details."
_WORDS = "harbour gull market lantern salt rope tide morning bread window island letter".split()


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one model."""

    decode: float
    """Tokens a second of one reply."""
    prefill: float
    """Tokens a second of a prompt of about 200 tokens."""
    first_token: float
    """Seconds to the first token after five turns, all but the last word being read ahead."""


def measure(models: list[Path], rounds: int, threads: int) -> dict[Path, dict[str, float]]:
    """The median of each figure, and the peak of the memory in bytes. Each round asks all the
    models, so that whatever else the machine does slows all of them."""
    with ExitStack() as stack:
        workers = {path: stack.enter_context(_worker(path, threads)) for path in models}
        found: dict[Path, list[Round]] = {path: [] for path in models}
        for number in range(-1, rounds):
            for path, worker in workers.items():
                timed = worker.submit(_round, number).result()
                if number >= 0:  # the first one brings the pages into memory
                    found[path].append(timed)
        peaks = {path: worker.submit(_peak).result() for path, worker in workers.items()}
    names = Round.__slots__
    return {
        path: {n: median(getattr(r, n) for r in timed) for n in names} | {"memory": peaks[path]}
        for path, timed in found.items()
    }


def _worker(path: Path, threads: int) -> ProcessPoolExecutor:
    context = get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_load, initargs=(path, threads))


_here: dict[str, Any] = {}
"""A worker's engine, its loop and its two slots: of the call, and of everything else."""


def _load(path: Path, threads: int) -> None:
    engine = LlamaCppEngine(path, slots=2, context=4096, threads=threads)
    _here.update(runner=asyncio.Runner(), call=engine.open(), other=engine.open())


def _round(number: int) -> Round:
    timed: Round = _here["runner"].run(_timed(number))
    return timed


async def _timed(number: int) -> Round:
    other: LlamaCppModel = _here["other"]
    _, decode, _ = await _reply(other, Prompt((_SYSTEM, Message("user", _STORY))), 64)
    words = " ".join(_WORDS[(number + at * at) % len(_WORDS)] for at in range(160))
    _, _, prefill = await _reply(other, Prompt((_SYSTEM, Message("user", words))), 1)
    call: LlamaCppModel = _here["call"]
    question = _QUESTIONS[number % len(_QUESTIONS)]
    await call.prefill(_talk(question.rpartition(" ")[0]))
    first, _, _ = await _reply(call, _talk(question), 1)
    return Round(decode, prefill, first)


def _talk(question: str) -> Prompt:
    roles = ("user", "assistant") * len(_TALK)
    said = (Message(role, text) for role, text in zip(roles, _TALK, strict=False))  # type: ignore[arg-type]
    return Prompt((_SYSTEM, *said, Message("user", question)))


async def _reply(
    model: LlamaCppModel, prompt: Prompt, max_tokens: int
) -> tuple[float, float, float]:
    """Seconds to the first token; tokens a second after it, and before it."""
    begun, times, finished = clock(), list[float](), Finished("stop")
    async for part in model.reply(prompt, Sampling(temperature=0.0, max_tokens=max_tokens)):
        times.append(clock())
        if isinstance(part, Finished):
            finished = part
    first, last = times[0], times[-1]
    decode = (finished.output_tokens - 1) / (last - first)
    read = finished.input_tokens - finished.cached_tokens
    return first - begun, decode, read / (first - begun)


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024.0 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
