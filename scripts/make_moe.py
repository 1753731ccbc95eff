"""Make a recipe: what turns the packaged dense model into a mixture of experts.

Stages, each of which leaves files in --work and is not done again: the dense model unpacked for
PyTorch; conversations with right answers; the dense model's own replies to drawn conversations; the
cut; distilling; the recipe. Meant for an accelerator, where the whole takes some ten minutes (a
processor does it too, in days); with a recipe, `conch models build-moe` makes the model in minutes
anywhere.

    .venv/bin/python scripts/make_moe.py --work out/moe -o out/moe/moe.npz
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.models import locate
from llm.moe.carve import carve, recipe
from llm.moe.distil import Head, Lesson, Teaching, batches, score
from llm.moe.export import unpacked
from llm.moe.guard import Guard
from llm.moe.judging import every
from llm.moe.lessons import teach, written
from llm.moe.prompts import Conversation, draw
from llm.moe.reading import Speaker, read
from llm.moe.recipe import Shape, save
from llm.moe.recipe import read as read_recipe
from llm.moe.student import learned, student

DENSE = "qwen2.5-coder-1.5b"
SHAPE = Shape(shared=4864, experts=16, top_k=3)
BLOCK_RANK, ATTENTION_RANK = 26, 16
HELD_OUT = 60
"""Conversations that nothing is learned from, and by which is not cut either."""
CALIBRATION = 16_000
"""Tokens by which is cut."""
REPLY, TEMPERATURE = 90, 0.7
AT_ONCE = 2048
BATCH, RIGHT_BATCH = 9000, 3600
"""Tokens a step: of the dense model's replies, and of conversations with right answers."""
TOLD, RIGHT_SHARE = 0.5, 0.25
"""How much a right answer counts against the dense model's opinion, and of the loss."""
LOUDER = {"<tool_call>": 2.5}
"""Of the lessons' tokens, one that the dense model never learned (Recipe.louder)."""
_EVERY = 50
"""Steps between two lines about how it goes."""
_CHINESE = "[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]+"
_SAVES = 4
"""Of the recipe, on the way."""
_ASCII, _OTHERS = 30_000, 110_000
"""Tokens of the vocabulary are numbered by how common they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=2048, help="with the model's replies")
    parser.add_argument("--right", type=int, default=12_000, help="with right answers")
    parser.add_argument("--steps", type=int, default=540)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    unpack(args.work / "dense", DENSE)
    tokenizer = AutoTokenizer.from_pretrained(args.work / "dense")
    asked = [text for questions in every() for text in questions.asked()]
    right = kept(args.work / "right.pt", lambda: right_answers(tokenizer, asked, args))
    teacher = dense(args.work)
    head = Head(teacher, vocabulary(tokenizer, right))
    speaker = Speaker(teacher, tokenizer, head, longest=REPLY, temperature=TEMPERATURE)
    waiting = islice(callers(asked, args), args.conversations)
    replies = kept(args.work / "replies.pt", lambda: speaker.answer(waiting, AT_ONCE))
    print(
        f"{len(replies)} conversations, {sum(map(spoken, replies))} tokens of replies", flush=True
    )
    held, taught = replies[:HELD_OUT], replies[HELD_OUT:]
    if not (args.work / "cut.npz").exists():
        read_by = calibration(taught, teacher.device)
        cuts = carve(teacher, read_by, SHAPE, seed=args.seed)
        save(recipe(cuts, SHAPE.top_k), args.work / "cut.npz")
    model = student(
        dense(args.work), read_recipe(args.work / "cut.npz"),
        block_rank=BLOCK_RANK, attention_rank=ATTENTION_RANK,
    )  # fmt: skip
    print("held out, before:", score(teacher, model, head, held), flush=True)
    teaching = Teaching(teacher, model, head, rate=args.rate)
    for _ in distil(teaching, taught, right, args):
        louder = {tokenizer.convert_tokens_to_ids(text): times for text, times in LOUDER.items()}
        save(replace(learned(model), louder=louder), args.output)
    print("held out, after:", score(teacher, model, head, held), flush=True)


def kept(path: Path, make: Any) -> list[Lesson]:
    """What was made before, or is made now."""
    if not path.exists():
        torch.save([(one.tokens, one.weights) for one in make()], path)
    return loaded(path)


def loaded(path: Path) -> list[Lesson]:
    return [Lesson(*one) for one in torch.load(path, weights_only=True)]


def unpack(home: Path, name: str) -> None:
    """A GGUF file of the catalogue as a directory that transformers loads in no time."""
    if (home / "config.json").exists():
        return
    packed = locate(name)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(home)
    unpacked(packed).save_pretrained(home)


def dense(work: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(work / "dense", dtype=torch.bfloat16).eval()
    model.requires_grad_(requires_grad=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def right_answers(tokenizer: Any, asked: list[str], args: argparse.Namespace) -> list[Lesson]:
    drawn = teach(args.right, args.seed, asked)
    talks = list(written(args.seed, asked))
    return [read(tokenizer, one) for one in track([*drawn, *talks], "right answers")]


def callers(asked: list[str], args: argparse.Namespace) -> Iterator[Conversation]:
    """Drawn conversations, and by turns the questions to which there are right answers too."""
    guard, taught = Guard(asked), teach(args.conversations, args.seed + 1, asked)
    for drawn, one in zip(draw(args.conversations, args.seed), taught, strict=True):
        if guard.lets([(turn, "") for turn in drawn.turns]):
            yield drawn
        if not one.tools:
            yield Conversation(one.instructions, tuple(said for said, _ in one.turns))


def vocabulary(tokenizer: Any, lessons: list[Lesson]) -> Tensor:
    """The tokens that are spoken: common words and characters, and what `lessons` hold."""
    texts = [tokenizer.decode([token]) for token in range(_OTHERS)]
    common = {
        token
        for token, text in enumerate(texts)
        if (text.isascii() and token < _ASCII) or re.fullmatch(_CHINESE, text)
    }
    common.update(tokenizer.all_special_ids, tokenizer.added_tokens_encoder.values())
    for one in lessons:
        common.update(one.tokens.tolist())
    return torch.tensor(sorted(common))


def spoken(one: Lesson) -> int:
    return int((one.weights == 1).sum())


def calibration(lessons: list[Lesson], device: Any) -> Iterator[tuple[Tensor, Tensor]]:
    seen = 0
    for one in lessons:
        if seen >= CALIBRATION:
            return
        # A weight is that of the prediction of the next token.
        yield one.tokens.to(device), (one.weights == 1).roll(1).to(device)
        seen += len(one.tokens)


def distil(
    teaching: Teaching, taught: list[Lesson], right: list[Lesson], args: argparse.Namespace
) -> Iterator[int]:
    """Yields a few times on the way, and at the end, how many steps were made."""
    rng, every_so_often = random.Random(args.seed), max(1, args.steps // _SAVES)
    streams = zip(endless(taught, BATCH, rng), endless(right, RIGHT_BATCH, rng), strict=True)
    for step, (replies, answers) in enumerate(islice(streams, args.steps), 1):
        parts = [(*replies, 0.0, 1 - RIGHT_SHARE), (*answers, TOLD, RIGHT_SHARE)]
        scores = teaching.teach(parts, step / args.steps)
        if step % _EVERY == 0:
            print(step, *scores, flush=True)
        if step % every_so_often == 0 or step == args.steps:
            yield step


def endless(lessons: list[Lesson], budget: int, rng: random.Random) -> Iterator[Any]:
    return chain.from_iterable(batches(lessons, budget, rng) for _ in count())


if __name__ == "__main__":
    main()
