"""How many of the questions in llm/moe/questions.toml do GGUF models answer right?

    .venv/bin/python scripts/rate_llm.py A.gguf B.gguf --json out/llm/accuracy.json --wrong

The project's own engine is asked, at temperature 0, with the assistant's instructions when the
mixtures were taught; with `--present`, as they are now. Answers are kept in out/llm, so that an
interrupted run goes on where it was, and a check that is mended needs no new answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from assistant.config import INSTRUCTIONS
from llm.interfaces import Message, Prompt, Sampling, TextDelta, ToolCall
from llm.llamacpp import LlamaCppEngine
from llm.moe.judging import QUESTIONS, Question, Questions, load, right
from llm.moe.lessons import TAUGHT

GREEDY = Sampling(temperature=0.0, max_tokens=60)
_SLOTS = 4
_KEPT = Path("out/llm")


class Answer(msgspec.Struct):
    ask: tuple[str, ...]
    offered: bool
    """Whether the tools were offered with it."""
    text: str
    calls: tuple[ToolCall, ...] = ()


Answers = dict[tuple[tuple[str, ...], bool], Answer]
"""By what was asked, and whether tools were offered."""


def answers(
    path: Path, questions: Questions, threads: int = 2, instructions: str = TAUGHT
) -> Answers:
    """The model's answer to every question; only what it has not yet answered is asked."""
    kept = _KEPT / f"{path.stem}-{_fingerprint(path, questions, instructions)}.jsonl"
    lines = kept.read_bytes().splitlines() if kept.exists() else []
    known = {_key(a): a for a in (msgspec.json.decode(line, type=Answer) for line in lines)}
    wanted = [q for kind in questions.questions.values() for q in kind]
    missing = [q for q in wanted if (q.ask, q.call is not None) not in known]
    if missing:
        _KEPT.mkdir(parents=True, exist_ok=True)
        for answer in asyncio.run(_ask(path, missing, questions, kept, threads, instructions)):
            known[_key(answer)] = answer
    return known


def accuracy(questions: Questions, given: Answers) -> dict[str, tuple[int, int]]:
    """By kind, and of all: how many are right, of how many."""
    shares = {
        kind: (sum(is_right(q, given) for q in asked), len(asked))
        for kind, asked in questions.questions.items()
    }
    correct, asked = zip(*shares.values(), strict=True)
    return {**shares, "all": (sum(correct), sum(asked))}


def is_right(question: Question, given: Answers) -> bool:
    answer = given[question.ask, question.call is not None]
    return right(question, answer.text, answer.calls)


async def _ask(
    path: Path,
    missing: list[Question],
    questions: Questions,
    kept: Path,
    threads: int,
    instructions: str,
) -> list[Answer]:
    engine = await asyncio.to_thread(
        LlamaCppEngine, path, slots=_SLOTS, context=2048, threads=threads
    )
    waiting, found = list(reversed(missing)), list[Answer]()
    with Progress(console=Console(stderr=True)) as progress, kept.open("ab") as file:
        task = progress.add_task(path.stem, total=len(missing))

        async def caller() -> None:
            model = engine.open()
            while waiting:
                answer = await _answer(model, waiting.pop(), questions, instructions)
                found.append(answer)
                file.write(msgspec.json.encode(answer) + b"\n")
                file.flush()
                progress.advance(task)
            await model.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(_SLOTS):
                group.create_task(caller())
    await engine.aclose()
    return found


async def _answer(
    model: Any, question: Question, questions: Questions, instructions: str
) -> Answer:
    offered = question.call is not None
    tools = questions.toolbox() if offered else ()
    prompt = Prompt((Message("system", instructions), *question.messages()), tools)
    parts = [part async for part in model.reply(prompt, GREEDY)]
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    calls = tuple(part for part in parts if isinstance(part, ToolCall))
    return Answer(question.ask, offered, text, calls)


def _key(answer: Answer) -> tuple[tuple[str, ...], bool]:
    return answer.ask, answer.offered


def _fingerprint(path: Path, questions: Questions, instructions: str) -> str:
    """Of everything on which an answer depends, beside the question."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(repr((instructions, GREEDY, questions.tools)).encode())
    return digest.hexdigest()[:12]


def main(
    models: list[Path],
    json_file: Annotated[Path | None, typer.Option("--json", help="also write it here")] = None,
    threads: int = 2,
    *,
    questions_file: Annotated[Path, typer.Option("--questions")] = QUESTIONS,
    wrong: Annotated[bool, typer.Option(help="print what was answered wrong")] = False,
    present: Annotated[bool, typer.Option("--present", help="the present instructions")] = False,
) -> None:
    """Print the share of right answers, by kind of question."""
    questions, console = load(questions_file), Console()
    kinds = [*questions.questions, "all"]
    table, figures = Table("model", *kinds), {}
    for path in models:
        given = answers(path, questions, threads, INSTRUCTIONS if present else TAUGHT)
        figures[path.stem] = shares = accuracy(questions, given)
        table.add_row(path.stem, *(f"{100 * r / n:.1f} %" for r, n in shares.values()))
        if wrong:
            _print_wrong(console, path.stem, questions, given)
    console.print(table)
    console.print("questions:", dict(Counter({k: n for k, (_, n) in shares.items()})))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _print_wrong(console: Console, name: str, questions: Questions, given: Answers) -> None:
    for kind, asked in questions.questions.items():
        for question in asked:
            if not is_right(question, given):
                answer = given[question.ask, question.call is not None]
                said = answer.text or [f"{c.name}({c.arguments})" for c in answer.calls]
                console.print(f"{name} {kind}: {question.ask[-1]!r} -> {said!r}", markup=False)


if __name__ == "__main__":
    typer.run(main)
