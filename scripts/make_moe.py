"""Make a recipe: what turns the packaged dense model into a mixture of experts.

Stages, each of which leaves files in --work and is not done again (replies and distilling go on
where they were stopped): replies of the dense model to drawn conversations; the dense model
unpacked for PyTorch; the cut; distilling; the recipe. The whole takes hours on two cores; with a
recipe, `conch models build-moe` makes the model in minutes.

    .venv/bin/python scripts/make_moe.py --work out/moe -o out/moe/moe.npz
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.models import locate
from llm.interfaces import Message, Prompt, Tool
from llm.llamacpp import LlamaCppEngine
from llm.moe.carve import carve, recipe
from llm.moe.distil import Lesson, Teaching, batches, lesson, score
from llm.moe.export import unpacked
from llm.moe.judging import load as load_questions
from llm.moe.prompts import Conversation, draw
from llm.moe.recipe import Recipe, Shape, read, save
from llm.moe.student import learned, student
from llm.wire import encode_prompt

DENSE = "qwen2.5-coder-1.5b"
SHAPE = Shape(shared=4864, experts=16, top_k=2)
BLOCK_RANK, ATTENTION_RANK = 12, 8
HELD_OUT = 20
"""Conversations that nothing is learned from, and by which is not cut either."""
CALIBRATION = 5000
"""Tokens by which is cut."""
REPLY = 70
"""Tokens at most."""
BATCH = 1024
SLOTS = 12
CHECKPOINT = 20
"""Steps."""
SAMPLING = {"temperature": 0.6, "top_k": 40, "top_p": 0.95, "stream": False}
_CALLER, _ASSISTANT, _END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    write_replies(args.work / "replies.jsonl", args.conversations, args.seed)
    unpack(args.work / "dense", DENSE)
    tokenizer = AutoTokenizer.from_pretrained(args.work / "dense")
    spoken = list(conversations(tokenizer, args.work / "replies.jsonl"))
    if not (args.work / "cut.npz").exists():
        cuts = carve(dense(args.work), calibration(spoken[HELD_OUT:]), SHAPE, seed=args.seed)
        save(recipe(cuts, SHAPE.top_k), args.work / "cut.npz")
    # What stands before the caller's first words is said to every caller alike.
    lessons = [lesson(*one, instructions=one[0].index(one[0][0], 1)) for one in spoken]
    save(distil(args.work, lessons, args.steps, args.seed), args.output)


def write_replies(path: Path, number: int, seed: int) -> None:
    """One line a conversation: its text as the dense model reads it, and where its replies are."""
    done = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
    asked = load_questions().asked()
    waiting = list(draw(number, seed, without=asked))[done:]
    if not waiting:
        return
    engine = LlamaCppEngine(locate(DENSE), slots=SLOTS, context=1536)
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(SLOTS):
        free.put(slot)

    def converse(conversation: Conversation) -> dict[str, Any]:
        slot = free.get()
        try:
            return answered(engine, conversation, slot, seed)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(SLOTS) as pool, path.open("a", encoding="utf-8") as file:
        # In the order drawn, so that `done` says which are missing.
        for made in track(pool.map(converse, waiting), "replies", total=len(waiting)):
            file.write(json.dumps(made, ensure_ascii=False) + "\n")
            file.flush()
    asyncio.run(engine.aclose())


def answered(
    engine: LlamaCppEngine, conversation: Conversation, slot: int, seed: int
) -> dict[str, Any]:
    opening = [Message("system", conversation.instructions), Message("user", conversation.turns[0])]
    tools = tuple(Tool(**tool["function"]) for tool in conversation.tools)
    text, replies = engine.render(encode_prompt(Prompt(tuple(opening), tools))), []
    for number, turn in enumerate(conversation.turns):
        if number:
            text += f"{_CALLER}{turn}{_END}\n{_ASSISTANT}"
        got: list[Any] = []
        request = {"prompt": text, "n_predict": REPLY, "id_slot": slot, "seed": seed, **SAMPLING}
        engine.complete(request, got.append)
        [choice] = got[-1]["choices"]
        replies.append([len(text), len(text) + len(choice["text"]), choice["finish_reason"]])
        text += choice["text"] + f"{_END}\n"
        if "<tool_call>" in choice["text"]:
            text += (
                f"{_CALLER}<tool_response>\n{{}}\n</tool_response>{_END}\n{_ASSISTANT}Done.{_END}\n"
            )
    return {"text": text, "replies": replies}


def unpack(home: Path, name: str) -> None:
    """A GGUF file of the catalogue as a directory that transformers loads in no time."""
    if (home / "config.json").exists():
        return
    packed = locate(name)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(home)
    unpacked(packed).save_pretrained(home)


def dense(work: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(work / "dense", dtype=torch.bfloat16).eval()
    return model.requires_grad_(False)


def conversations(tokenizer: Any, replies: Path) -> Iterator[tuple[list[int], list[bool]]]:
    """Tokens, and which of them a reply holds: its end too, where it came to one."""
    [end] = tokenizer.encode(_END, add_special_tokens=False)
    for line in replies.read_text(encoding="utf-8").splitlines():
        made, at = json.loads(line), 0
        tokens: list[int] = []
        spoken: list[bool] = []
        for begin, stop, reason in made["replies"]:
            asked = tokenizer.encode(made["text"][at:begin], add_special_tokens=False)
            reply = tokenizer.encode(made["text"][begin:stop], add_special_tokens=False)
            tokens += [*asked, *reply, end]
            spoken += [*[False] * len(asked), *[True] * len(reply), reason == "stop"]
            at = stop + len(_END)
        yield tokens, spoken


def calibration(spoken: list[tuple[list[int], list[bool]]]) -> Iterator[tuple[Tensor, Tensor]]:
    read = 0
    for tokens, replies in spoken:
        if read >= CALIBRATION:
            return
        yield torch.tensor(tokens), torch.tensor(replies)
        read += len(tokens)


def distil(work: Path, lessons: list[Lesson], steps: int, seed: int) -> Recipe:
    held, taught = lessons[:HELD_OUT], lessons[HELD_OUT:]
    teacher, model = dense(work), dense(work)
    student(model, read(work / "cut.npz"), block_rank=BLOCK_RANK, attention_rank=ATTENTION_RANK)
    teaching, saved = Teaching(teacher, model, steps=steps), work / "distilled.pt"
    if saved.exists():
        teaching.restore(torch.load(saved, weights_only=True))
    print("held out, before:", score(teacher, model, held))
    rng = random.Random(seed)
    endless = chain.from_iterable(batches(taught, BATCH, rng) for _ in count())
    for tokens, weights in islice(endless, steps - teaching.step):
        print(teaching.step, teaching.teach(tokens, weights), flush=True)
        if teaching.step % CHECKPOINT == 0:
            torch.save(teaching.state(), saved)
    print("held out, after:", score(teacher, model, held))
    return learned(model)


if __name__ == "__main__":
    main()
