"""One call's cache: whatever was read and taken back, what follows is what a fresh reading says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llm.kvcache import Stack, Track
from tests import tiny


def model(kind: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny.config(kind)).eval()


def fresh(model: Any, prompt: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([prompt]), use_cache=False).logits[0, -1]
    return logits


def read(model: Any, track: Track, prompt: list[int]) -> torch.Tensor:
    """As the engine does: in chunks, a copy before the last token; the logits behind that."""
    kept = track.rewind(prompt)
    for at in range(kept, len(prompt) - 1, 7):
        track.feed(model, prompt[at : min(at + 7, len(prompt) - 1)])
    track.copy_state()
    return track.feed(model, prompt[-1:])


def tokens(chance: np.random.Generator, count: int) -> list[int]:
    drawn: list[int] = chance.integers(3, 320, count).tolist()
    return drawn


@pytest.mark.parametrize("kind", sorted(tiny.KINDS))
def test_prompts_that_depart_from_one_another_anywhere(kind: str) -> None:
    made, track, chance = model(kind), Track(), np.random.default_rng(3)
    prompt: list[int] = []
    with torch.inference_mode():
        for _ in range(12):
            shared = chance.choice([len(prompt), max(len(prompt) - 1, 0), chance.integers(30), 0])
            prompt = [*prompt[:shared], *tokens(chance, chance.integers(1, 25))]
            torch.testing.assert_close(
                read(made, track, prompt), fresh(made, prompt), rtol=1e-4, atol=1e-4
            )
            assert track.tokens == prompt


@pytest.mark.parametrize("kind", ["qwen3-moe", "gpt-oss", "minimax", "lfm2-moe"])
def test_a_beginning_serves_other_calls_and_stays_what_it_was(kind: str) -> None:
    made, first, one, other = model(kind), Track(), Track(), Track()
    start = list(range(10, 40))
    with torch.inference_mode():
        read(made, first, start)
        kept = first.beginning(25 if kind == "qwen3-moe" else 30)
        first.feed(made, [5, 6, 7])
        for track, end in ((one, [50, 51]), (other, [60, 61, 62])):
            track.follow(kept)
            assert track.reach([*start, *end]) >= 25
            torch.testing.assert_close(
                read(made, track, [*start, *end]), fresh(made, [*start, *end]), rtol=1e-4, atol=1e-4
            )
        again = read(made, one, [*start, 70])
        torch.testing.assert_close(again, fresh(made, [*start, 70]), rtol=1e-4, atol=1e-4)


def test_a_stack_reads_as_each_alone_and_comes_apart_again() -> None:
    made, chance = model("qwen3-moe"), np.random.default_rng(1)
    prompts = [tokens(chance, length) for length in (3, 17, 9)]
    with torch.inference_mode():
        tracks = [Track() for _ in prompts]
        for track, prompt in zip(tracks, prompts, strict=True):
            read(made, track, prompt)
        assert all(track.plain for track in tracks)
        stack = Stack(tracks)
        for step in range(3):
            new = [20 + step, 30 + step, 40 + step]
            rows = stack.feed(made, new)
            for row, prompt, token in zip(rows, prompts, new, strict=True):
                prompt.append(token)
                torch.testing.assert_close(row, fresh(made, prompt), rtol=1e-4, atol=1e-4)
        stack.part()
        for track, prompt in zip(tracks, prompts, strict=True):
            assert track.tokens == prompt
            alone = track.feed(made, [99])
            torch.testing.assert_close(alone, fresh(made, [*prompt, 99]), rtol=1e-4, atol=1e-4)


def test_no_more_than_a_few_copies_are_kept_the_first_among_them() -> None:
    made, track = model("minimax"), Track()
    with torch.inference_mode():
        for length in range(5, 60, 5):
            read(made, track, list(range(3, 3 + length)))
    assert [kept.position for kept in track._copies] == [4, 44, 49, 54]
