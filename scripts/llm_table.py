"""One table of GGUF models, the first being what the others are compared with: docs/models.md.

    .venv/bin/python scripts/llm_table.py DENSE.gguf SMALL.gguf MOE.gguf --json out/llm/table.json \
      --svg docs/models.svg

The first two are the dense models between which the picture's line is drawn. Figures that the
JSON file has already for the same file are not made again; `--part` makes only some of them
(speed wants a machine with nothing else to do).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from gguf import GGUFReader

from llm.moe.judging import Questions, load
from rate_llm import accuracy, answers
from rating import nearness, speed
from rating.picture import Point, curve

Figures = dict[str, Any]
PARTS = ("size", "speed", "nearness", "accuracy")
COLUMNS: dict[str, Callable[[Figures, Figures], str]] = {
    "model": lambda f, _: f["name"],
    "parameters": lambda f, _: f"{f['parameters'] / 1e9:.2f} B",
    "active": lambda f, _: f"{f['active'] / 1e9:.2f} B",
    "decode, tokens/s": lambda f, to: f"{f['decode']:.1f} ({f['decode'] / to['decode']:.2f}×)",
    "prefill, tokens/s": lambda f, to: f"{f['prefill']:.0f} ({f['prefill'] / to['prefill']:.2f}×)",
    "first token": lambda f, _: f"{1000 * f['first_token']:.0f} ms",
    "peak memory": lambda f, _: f"{f['memory'] / 1e9:.2f} GB",
    "KL": lambda f, _: f"{f['kl']:.3f}",
    "top-1": lambda f, _: f"{100 * f['top1']:.1f} %",
    "perplexity": lambda f, _: f"{f['perplexity']:.1f}",
    "right answers": lambda f, _: f"{_percent(f):.1f} %",
}
"""What each cell says, of a model's figures and of the first model's."""


def size(path: Path) -> dict[str, int]:
    """Parameters in all, and those that one token uses; embedding tables are in both."""
    reader = GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    total = sum(int(tensor.n_elements) for tensor in reader.tensors)
    routed = sum(int(t.n_elements) for t in reader.tensors if "_exps." in t.name)
    if not routed:
        return {"parameters": total, "active": total}
    used, of = (
        reader.fields[f"{architecture}.{name}"].contents()
        for name in ("expert_used_count", "expert_count")
    )
    return {"parameters": total, "active": total - routed * (of - used) // of}


def talks(
    reference: Path, questions: Questions, replies: int, threads: int
) -> list[tuple[str, ...]]:
    """Questions, evenly from all kinds but those about tools, with the reference's own replies."""
    given = answers(reference, questions, threads)
    asked = [q for kind in questions.questions.values() for q in kind if q.call is None]
    step = max(1, len(asked) // replies)
    return [(*q.ask, given[q.ask, False].text) for q in asked[::step] if given[q.ask, False].text]


def make(
    part: str, models: list[Path], reference: Path, rounds: int, replies: int, threads: int
) -> dict[Path, Figures]:
    """One part's figures of the models."""
    match part:
        case "size":
            return {path: size(path) for path in models}
        case "speed":
            return speed.measure(models, rounds, threads)
        case "accuracy":
            questions = load()
            found = {p: accuracy(questions, answers(p, questions, threads)) for p in models}
            return {path: {"accuracy": shares} for path, shares in found.items()}
    questions = load()
    spoken = talks(reference, questions, replies, threads)
    name = hashlib.sha256(repr((_sha256(reference), spoken)).encode()).hexdigest()[:12]
    kept = Path("out/llm") / f"reference-{name}.pt"
    return {path: asdict(nearness.measure(path, spoken, reference, kept)) for path in models}


def table(figures: list[Figures]) -> str:
    """In Markdown; a dash where a figure was not made."""

    def cell(column: str, row: Figures) -> str:
        try:
            return COLUMNS[column](row, figures[0])
        except KeyError:
            return "–"

    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[cell(column, row) for column in COLUMNS] for row in figures]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(  # a command line
    models: list[Path],
    json_file: Annotated[Path, typer.Option("--json")] = Path("out/llm/table.json"),
    svg: Annotated[Path | None, typer.Option(help="draw speed against accuracy")] = None,
    part: Annotated[list[str] | None, typer.Option(help="size, speed, nearness, accuracy")] = None,
    *,
    rounds: int = 3,
    replies: int = 60,
    threads: int = 2,
) -> None:
    """Print the table."""
    known: dict[str, Figures] = json.loads(json_file.read_text()) if json_file.exists() else {}
    figures = {
        path: known.get(sha, {"name": path.stem}) for path in models for sha in [_sha256(path)]
    }
    for each in part or PARTS:
        missing = [path for path in models if each not in figures[path].get("made", ())]
        # Speeds compare only within one run; all else is kept as soon as it is there.
        runs = [models] if missing and each == "speed" else [[path] for path in missing]
        for run in runs:
            for path, new in make(each, run, models[0], rounds, replies, threads).items():
                figures[path] |= new
                figures[path]["made"] = sorted({*figures[path].get("made", ()), each})
                known[_sha256(path)] = figures[path]
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(known, indent=1) + "\n")
    rows = [figures[path] for path in models]
    print(table(rows))
    if svg and all({"speed", "accuracy"} <= set(row["made"]) for row in rows):
        points = [Point(row["name"], row["decode"], _percent(row)) for row in rows]
        svg.write_text(curve(points, (points[0], points[1])), encoding="utf-8")


def _percent(figures: Figures) -> float:
    right, asked = figures["accuracy"]["all"]
    return 100.0 * right / asked


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    typer.run(main)
