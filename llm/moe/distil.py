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
from torch.nn.functional import linear, log_softmax

_LONGEST = 900
"""Tokens of a conversation."""
_CALLER = 0.25
"""The weight of a token that the caller says; the replies' weigh 1, the instructions' nothing."""
_LOGITS = 30_000_000
"""How many logits are in memory at a time."""
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


class Head:
    """The output matrix's rows for the tokens that are looked at: nobody speaks the others, and
    half of the time would go into them."""

    def __init__(self, model: Any, spoken: Tensor | None = None) -> None:
        """`spoken`: [tokens looked at], in ascending order; without, all."""
        weight = model.lm_head.weight.detach()
        spoken = torch.arange(len(weight)) if spoken is None else spoken
        self.spoken = spoken.to(weight.device)
        self._weight = weight[self.spoken]
        self.rows = max(1, _LOGITS // len(spoken))

    def __call__(self, hidden: Tensor) -> Tensor:
        """[places, hidden] -> log probabilities, [places, tokens looked at]."""
        return log_softmax(linear(hidden, self._weight).float(), -1)

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Where among those looked at each of `tokens` is, and whether it is."""
        at = torch.searchsorted(self.spoken, tokens).clamp(max=len(self.spoken) - 1)
        return at, self.spoken[at] == tokens


def compare(  # noqa: PLR0913 - one lesson's parts
    teacher: Any,
    student: Any,
    head: Head,
    tokens: Tensor,
    weights: Tensor,
    *,
    learn: bool,
    told: float = 0.0,
    share: float = 1.0,
) -> tuple[float, float, int]:
    """The summed KL and agreements of the replies' tokens, and their number. With `learn`, the
    student's gradients are there afterwards, of the weighted mean KL times `share`; the wanted
    distribution is the teacher's, but `told` of it the token that is there. Places beyond a row's
    end see nothing that counts: attention is causal."""
    device = next(student.parameters()).device
    tokens, weights = tokens.to(device), weights.to(device)
    at = weights > 0
    weight, following = weights[at], tokens.roll(-1, 1)[at]
    with torch.no_grad():
        taught = teacher.model(tokens, use_cache=False).last_hidden_state[at]
    with torch.set_grad_enabled(learn):
        said = student.model(tokens, use_cache=False).last_hidden_state[at]
    cut = said.detach().requires_grad_(learn)
    sums = torch.zeros(2, device=device)
    for begin in range(0, len(weight), head.rows):
        rows = slice(begin, begin + head.rows)
        with torch.no_grad():
            wanted = head(taught[rows])
        with torch.set_grad_enabled(learn):
            got = head(cut[rows])
            apart = (wanted.exp() * (wanted - got)).sum(-1)
        spoken = weight[rows] == 1
        sums[0] += apart.detach()[spoken].sum()
        sums[1] += (wanted.argmax(-1) == got.argmax(-1))[spoken].sum()
        if learn:
            place, known = head.places(following[rows])
            missed = -got.gather(1, place[:, None])[:, 0]
            lost = torch.where(spoken & known, (1 - told) * apart + told * missed, apart)
            torch.autograd.backward(share * (lost * weight[rows]).sum() / weight.sum())
    if learn:
        said.backward(cut.grad)
    kl, agreed = sums.tolist()
    return kl, agreed, int((weight == 1).sum())


def score(
    teacher: Any, student: Any, head: Head, lessons: Sequence[Lesson], budget: int = 1600
) -> Score:
    sums = [0.0, 0.0, 0.0]
    for tokens, weights in batches(lessons, budget, random.Random(0)):
        made = compare(teacher, student, head, tokens, weights, learn=False)
        sums = [total + part for total, part in zip(sums, made, strict=True)]
    kl, agreed, count = sums
    return Score(kl / count, agreed / count, int(count))


class Teaching:
    """Adam over the student's corrections and routers, with a cosine schedule."""

    def __init__(self, teacher: Any, student: Any, head: Head, *, rate: float = 1e-3) -> None:
        self.teacher, self.student, self.head, self.step = teacher, student, head, 0
        named = {name: p for name, p in student.named_parameters() if p.requires_grad}
        self._corrections = [p for name, p in named.items() if not name.endswith("router")]
        routers = [p for name, p in named.items() if name.endswith("router")]
        self._rates = [rate, rate * _ROUTER_RATE]
        self._adam = torch.optim.AdamW(
            [{"params": self._corrections}, {"params": routers}], betas=_BETAS, weight_decay=0.0
        )

    def teach(
        self, parts: Sequence[tuple[Tensor, Tensor, float, float]], progress: float
    ) -> list[Score]:
        """One step, on parts of tokens, weights, `told` and `share` (see `compare`), after
        `progress`, 0 to 1, of the schedule. What the student said of each before it."""
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        pace = warm * (_LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * progress)))
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * pace
        scores = []
        for tokens, weights, told, share in parts:
            kl, agreed, count = compare(
                self.teacher, self.student, self.head, tokens, weights,
                learn=True, told=told, share=share,
            )  # fmt: skip
            scores.append(Score(kl / count, agreed / count, count))
        torch.nn.utils.clip_grad_norm_(self._corrections, 1.0)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.step += 1
        return scores
