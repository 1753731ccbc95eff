"""Make a recipe: what turns the packaged small dense model into a mixture that says more.

Its blocks stay whole; routed experts and corrections beside them learn from conversations with
right answers and from some written out (llm/moe/lessons.py), and from the larger dense model's
replies, where scripts/make_moe.py has left some. Training goes on where it was stopped. `--start`
takes what another training learned, and `--share` how much of it: half of a training at a high
rate keeps what it taught and undoes what it broke (https://arxiv.org/abs/2109.01903). `--unsaid`
also makes refusals of what is harmless less likely (unlikelihood training,
https://arxiv.org/abs/1908.04319).

    .venv/bin/python scripts/grow_moe.py --work out/grow -o out/grow/moe.npz
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm.moe.distil import Lesson, batches
from llm.moe.grown import learned, sprouting
from llm.moe.judging import every
from llm.moe.lessons import teach, unsaid, written
from llm.moe.reading import read
from llm.moe.recipe import Shape, save
from make_moe import loaded, unpack

DENSE = "qwen2.5-coder-0.5b"
SHAPE = Shape(shared=4864, experts=8, top_k=2)
NEURONS, RANK = 32, 8
HELD_OUT = 40
"""Conversations that nothing is learned from."""
BATCH = 900
RATES = {"a": 2e-4, "b": 2e-4, "down": 3e-4, "gate": 1e-4, "up": 1e-4, "router": 3e-4}
"""By a parameter's name: corrections, and the experts' matrices."""
WARM_UP, LEAST = 10, 0.05
CHECKPOINT = 25
_SURE = 0.999
"""Probability above which a token to be left unsaid is as wrong as it can be."""
_ADDED = {"b", "down"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--replies", type=Path, help="the larger model's, of make_moe.py")
    parser.add_argument("--steps", type=int, default=165)
    parser.add_argument("--drawn", type=int, default=6, help="conversations from tables, a step")
    parser.add_argument("--rate", type=float, default=1.0, help="times RATES")
    parser.add_argument("--start", type=Path, help="another training's grown.pt")
    parser.add_argument("--share", type=float, default=0.5, help="of what it learned")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unsaid", action="store_true", help="and that nothing is refused")
    parser.add_argument(
        "--average", action="store_true", help="of what it started from and what it has become"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    unpack(args.work / "dense", DENSE)
    tokenizer = AutoTokenizer.from_pretrained(args.work / "dense")
    model = AutoModelForCausalLM.from_pretrained(args.work / "dense", dtype=torch.bfloat16).eval()
    sprouting(model, SHAPE, neurons=NEURONS, rank=RANK, seed=args.seed)
    asked = [text for questions in every() for text in questions.asked()]
    drawn = (
        read(tokenizer, taught)
        for taught in teach(args.steps * args.drawn + HELD_OUT, args.seed, asked)
    )
    held = list(islice(drawn, HELD_OUT))
    talks = list(written(args.seed, asked))
    refused = unsaid(talks) if args.unsaid else ()
    lessons = [read(tokenizer, taught) for taught in chain(talks, refused)]
    lessons += drawn
    if args.replies:
        lessons += loaded(args.replies)
    train(model, held, lessons, args)
    save(learned(model), args.output)


def loss(model: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    """Of the replies' tokens, nats; of those to be left unsaid (-1), -log(1 - p)."""
    hidden = model.model(tokens, use_cache=False).last_hidden_state[:, :-1]
    lost = hidden.new_zeros((), dtype=torch.float32)
    for weight in (1, -1):
        at = (weights == weight)[:, :-1]
        if at.any():
            said = model.lm_head(hidden[at]).float()
            nats = cross_entropy(said, tokens[:, 1:][at], reduction="none")
            lost += (nats if weight == 1 else -torch.log1p(-(-nats).exp().clamp(max=_SURE))).mean()
    return lost


@torch.no_grad()
def judge(model: Any, held: list[Lesson]) -> float:
    each = [loss(model, *batch).item() for batch in batches(held, BATCH, random.Random(0))]
    return sum(each) / len(each)


def train(model: Any, held: list[Lesson], lessons: list[Lesson], args: argparse.Namespace) -> None:
    named = {name: part for name, part in model.named_parameters() if part.requires_grad}
    rates = [args.rate * RATES[_last(name)] for name in named]
    groups = [{"params": [part], "lr": 0.0} for part in named.values()]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    saved, done = args.work / "grown.pt", 0
    if args.start:
        begun = torch.load(args.start, weights_only=True)["model"]
        # What is added is a product of two factors: one of them carries the share.
        shares = {name: args.share if _last(name) in _ADDED else 1.0 for name in begun}
        begun = {name: part * shares[name] for name, part in begun.items()}
        model.load_state_dict(begun, strict=False)
    first = {name: part.detach().clone() for name, part in named.items()}
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        done = state["step"]
        adam.load_state_dict(state["adam"])
        model.load_state_dict(state["model"], strict=False)
    print(f"{len(lessons)} lessons; held out, step {done}: {judge(model, held):.3f}", flush=True)
    taught = islice(endless(lessons, args.seed), done, args.steps)
    for step, (tokens, weights) in enumerate(taught, done):
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * pace(step, args.steps)
        lost = loss(model, tokens, weights)
        lost.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        adam.step()
        adam.zero_grad()
        print(f"{step} {tokens.numel()} places, loss {lost.item():.3f}", flush=True)
        if (step + 1) % CHECKPOINT == 0:
            parts = {name: part.data for name, part in named.items()}
            torch.save({"step": step + 1, "adam": adam.state_dict(), "model": parts}, saved)
            print(f"held out, step {step + 1}: {judge(model, held):.3f}", flush=True)
    if args.average:
        for name, part in named.items():
            part.data = (part.data + first[name]) / 2


def pace(step: int, steps: int) -> float:
    """Of the rate: a warm-up, then a cosine."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (LEAST + (1 - LEAST) * (1 + math.cos(math.pi * step / steps)) / 2)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def endless(lessons: list[Lesson], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = random.Random(seed)
    return chain.from_iterable(batches(lessons, BATCH, rng) for _ in count())


if __name__ == "__main__":
    main()
