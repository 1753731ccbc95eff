"""Teaching a student to say what its teacher would: the teacher's whole distribution for each next
token is the lesson (Hinton et al., https://arxiv.org/abs/1503.02531), on replies that the teacher
itself wrote.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

_LONGEST = 900
"""Tokens of a conversation."""
_CALLER = 0.25
"""The weight of a token that the caller says; the replies' weigh 1, the instructions' nothing."""
_ROWS = 192
"""Positions of which the logits are in memory at a time."""
_PADDING = 0
_BETAS = (0.9, 0.95)
_WARM_UP, _LEAST = 8, 0.05
_ROUTER_RATE = 0.02
"""Of the learning rate: routers are level, so that little moves much."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation."""

    tokens: Tensor
    """[tokens]"""
    weights: Tensor
    """[tokens]: how much the prediction made at each place counts. The last one's is 0."""


@dataclass(frozen=True, slots=True)
class Score:
    """Over the replies' tokens."""

    kl: float
    """Mean KL(teacher || student), nats."""
    agreement: float
    """The share of tokens for which both find the same one likeliest."""
    tokens: int


def lesson(tokens: Sequence[int], spoken: Sequence[bool], instructions: int) -> Lesson:
    """From a conversation's tokens, which of them a reply holds, and how many the instructions
    are."""
    weights = [
        1.0 if reply else _CALLER if place >= instructions else 0.0
        for place, reply in enumerate(spoken)
    ]
    return Lesson(torch.tensor(tokens[:_LONGEST]), torch.tensor([*weights[1:], 0.0][:_LONGEST]))


def batches(
    lessons: Iterable[Lesson], budget: int, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Lessons of like length side by side, at most `budget` places a batch, in random order:
    tokens and weights, [lessons, longest]."""
    made: list[list[Lesson]] = [[]]
    for one in sorted(lessons, key=lambda one: len(one.tokens) + 40 * rng.random()):
        longest = max(len(other.tokens) for other in [*made[-1], one])
        if made[-1] and longest * (len(made[-1]) + 1) > budget:
            made.append([])
        made[-1].append(one)
    rng.shuffle(made)
    for batch in made:
        yield _padded([one.tokens for one in batch]), _padded([one.weights for one in batch])


def _padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_PADDING)


def compare(
    teacher: Any, student: Any, tokens: Tensor, weights: Tensor, *, learn: bool
) -> tuple[float, float, int]:
    """The summed KL and agreements of the replies' tokens, and their number. With `learn`, the
    student's gradients of the weighted mean KL are there afterwards. Places beyond a row's end
    see nothing that counts: attention is causal."""
    at = weights > 0
    weight = weights[at]
    with torch.no_grad():
        taught = teacher.model(tokens).last_hidden_state[at]
    with torch.set_grad_enabled(learn):
        said = student.model(tokens).last_hidden_state[at]
    cut = said.detach().requires_grad_(learn)
    kl = agreed = 0.0
    for begin in range(0, len(weight), _ROWS):
        rows = slice(begin, begin + _ROWS)
        with torch.no_grad():
            wanted = log_softmax(teacher.lm_head(taught[rows]).float(), -1)
        with torch.set_grad_enabled(learn):
            got = log_softmax(student.lm_head(cut[rows]).float(), -1)
            apart = (wanted.exp() * (wanted - got)).sum(-1)
            if learn:
                torch.autograd.backward((apart * weight[rows]).sum() / weight.sum())
        spoken = weight[rows] == 1
        kl += float(apart.detach()[spoken].sum())
        agreed += float((wanted.argmax(-1) == got.argmax(-1))[spoken].sum())
    if learn:
        said.backward(cut.grad)
    return kl, agreed, int((weight == 1).sum())


def score(teacher: Any, student: Any, lessons: Sequence[Lesson], budget: int = 1600) -> Score:
    sums = [0.0, 0.0, 0.0]
    for tokens, weights in batches(lessons, budget, random.Random(0)):
        made = compare(teacher, student, tokens, weights, learn=False)
        sums = [total + part for total, part in zip(sums, made, strict=True)]
    kl, agreed, count = sums
    return Score(kl / count, agreed / count, int(count))


class Teaching:
    """Adam over the student's corrections and routers, with a cosine schedule of `steps`."""

    def __init__(self, teacher: Any, student: Any, *, steps: int, rate: float = 1e-3) -> None:
        self.teacher, self.student, self.steps, self.step = teacher, student, steps, 0
        named = {name: p for name, p in student.named_parameters() if p.requires_grad}
        self._corrections = [p for name, p in named.items() if not name.endswith("router")]
        routers = [p for name, p in named.items() if name.endswith("router")]
        self._rates = [rate, rate * _ROUTER_RATE]
        self._adam = torch.optim.AdamW(
            [{"params": self._corrections}, {"params": routers}], betas=_BETAS, weight_decay=0.0
        )

    def teach(self, tokens: Tensor, weights: Tensor) -> Score:
        """One step. What the student said before it."""
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self.steps)))
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * warm * (cosine * (1 - _LEAST) + _LEAST)
        kl, agreed, count = compare(self.teacher, self.student, tokens, weights, learn=True)
        torch.nn.utils.clip_grad_norm_(self._corrections, 1.0)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.step += 1
        return Score(kl / count, agreed / count, count)

    def state(self) -> dict[str, Any]:
        """To go on from later."""
        named = {n: p.data for n, p in self.student.named_parameters() if p.requires_grad}
        return {"step": self.step, "adam": self._adam.state_dict(), "student": named}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._adam.load_state_dict(state["adam"])
        self.student.load_state_dict(state["student"], strict=False)
