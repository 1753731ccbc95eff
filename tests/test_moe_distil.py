"""A student of a tiny dense model learns, and what it learned is a recipe."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from llm.moe.carve import carve, recipe
from llm.moe.distil import Head, Lesson, Teaching, batches, lesson, score
from llm.moe.export import export
from llm.moe.prompts import draw, plain
from llm.moe.recipe import Shape, read, save
from llm.moe.student import learned, student
from tests import tiny

SHAPE = Shape(shared=32, experts=8, top_k=2)


@pytest.fixture
def dense() -> Any:
    torch.manual_seed(0)
    config = tiny.config("qwen2", intermediate_size=96)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)


def texts(count: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 320, (40,), generator=generator) for _ in range(count)]


def lessons(count: int, seed: int = 1) -> list[Lesson]:
    spoken = [place % 4 != 0 for place in range(40)]
    return [lesson(text.tolist(), spoken, 8) for text in texts(count, seed)]


def cut_student(dense: Any) -> Any:
    spoken = torch.arange(40) % 4 != 0
    made = recipe(carve(dense, [(text, spoken) for text in texts(6)], SHAPE), SHAPE.top_k)
    return student(copy.deepcopy(dense), made, block_rank=4, attention_rank=2)


def test_a_student_learns_from_its_teacher(dense: Any) -> None:
    model = cut_student(dense)
    head = Head(dense)
    before = score(dense, model, head, lessons(8))
    assert before.tokens == 8 * 30
    teaching = Teaching(dense, model, head, rate=1e-2)
    for step in range(15):
        for tokens, weights in batches(lessons(8), 400, random.Random(0)):
            [said] = teaching.teach([(tokens, weights, 0.0, 1.0)], step / 15)
            assert said.tokens == int((weights == 1).sum())
    after = score(dense, model, head, lessons(8))
    assert after.kl < 0.7 * before.kl
    assert after.agreement > before.agreement


def test_what_is_told_counts_beside_what_the_teacher_thinks(dense: Any) -> None:
    told, head = lessons(2, seed=9), Head(dense)
    [(tokens, weights)] = batches(told, 400, random.Random(0))
    likely = []
    for share in (0.0, 0.9):
        model = cut_student(dense)
        teaching = Teaching(dense, model, head, rate=1e-2)
        for _ in range(20):
            teaching.teach([(tokens, weights, share, 1.0)], 0.0)
        said = torch.log_softmax(model(tokens).logits.detach(), -1)[:, :-1]
        nats = said.gather(2, tokens[:, 1:, None])[..., 0]
        likely.append(float(nats[weights[:, :-1] == 1].mean()))
    assert likely[1] > likely[0] + 1


def test_only_the_tokens_that_are_spoken_are_compared(dense: Any) -> None:
    spoken = torch.arange(0, 320, 2)
    head, hidden = Head(dense, spoken), torch.randn(5, dense.config.hidden_size)
    wanted = torch.log_softmax(dense.lm_head(hidden)[:, spoken], -1)
    assert torch.allclose(head(hidden), wanted, atol=1e-5)
    place, known = head.places(torch.tensor([4, 5, 318, 319]))
    assert known.tolist() == [True, False, True, False]
    assert place[known].tolist() == [2, 159]


def test_what_was_learned_is_a_recipe_for_the_same_model(dense: Any, tmp_path: Path) -> None:
    model = cut_student(dense)
    teaching = Teaching(dense, model, Head(dense), rate=1e-2)
    for tokens, weights in batches(lessons(6), 80, random.Random(0)):
        teaching.teach([(tokens, weights, 0.0, 1.0)], 0.0)
    save(learned(model), tmp_path / "recipe.npz")
    made: Any = export(dense, read(tmp_path / "recipe.npz"), tmp_path / "moe")
    [tokens] = [torch.stack(texts(3, seed=5))]
    with torch.no_grad():
        wanted, got, untaught = (one(tokens).logits for one in (model, made, dense))
    assert (got - wanted).abs().mean() < 0.02 * (untaught - wanted).abs().mean()


def test_a_lesson_weighs_replies_most_and_instructions_not_at_all() -> None:
    made = lesson([5, 6, 7, 8, 9, 10], [False, False, False, True, True, False], 2)
    # Each weight is that of the prediction of the next token.
    assert made.weights.tolist() == [0.0, 0.25, 1.0, 1.0, 0.25, 0.0]


def test_batches_keep_to_their_budget_and_leave_nothing_out() -> None:
    rng = random.Random(3)
    made = [lesson(list(range(size)), [True] * size, 0) for size in rng.choices(range(3, 50), k=40)]
    seen = list(batches(made, 128, rng))
    assert all(tokens.numel() <= 128 and tokens.shape == weights.shape for tokens, weights in seen)
    assert sum(int((weights > 0).sum()) for _, weights in seen) == sum(
        len(m.tokens) - 1 for m in made
    )
    assert len({tokens.shape for tokens, _ in seen}) > 3


def test_drawn_conversations_are_the_same_for_a_seed_and_spare_the_questions() -> None:
    drawn = list(draw(300, 7))
    assert drawn == list(draw(300, 7))
    assert drawn != list(draw(300, 8))
    asked = drawn[0].turns[0].upper() + "!"
    spared = list(draw(300, 7, without=[asked]))
    assert 0 < len(spared) < 300
    assert all(plain(asked) != plain(turn) for one in spared for turn in one.turns)
    assert sum(bool(one.tools) for one in drawn) > 20
    assert sum(any("一" <= c <= "鿿" for c in "".join(one.turns)) for one in drawn) > 40
    assert all("{" not in turn for one in drawn for turn in one.turns)
