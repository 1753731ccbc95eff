"""Turn-taking, measured against a real server through the websocket: `make bench-turns`.

Every scenario (scripts/scenarios/*.toml) is a call. What is measured follows Full-Duplex-Bench
(arXiv 2503.04721, 2507.23159): does the assistant take over in pauses, how soon does it answer,
how soon and how surely does it stop, does it go on through backchannels, noise, its own echo and
side talk.
Afterwards the server's recogniser listens to what was really played and said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from assistant.clients.demo import server
from assistant.clients.wav import CallError
from duplex.lines import Speaker, missing
from duplex.measures import Probe, Row, probes, rows
from duplex.scenario import Book, Kind, Scenario, load
from duplex.stage import VoidError, needed, perform
from duplex.take import Take

_TRIES = 2
"""A reply may turn out too short for its scenario once."""


@dataclass
class Outcome:
    takes: list[Take] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def speak_missing(books: dict[Kind, Book], console: Console) -> None:
    """Let Kokoro say the lines that no earlier run has needed."""
    lines = missing(line for book in books.values() for line in needed(book))
    if lines:
        speaker = Speaker()
        with Progress(console=console) as progress:
            for line in progress.track(lines, description="Speaking"):
                speaker.speak(*line)


async def hold(
    books: dict[Kind, Book],
    arguments: argparse.Namespace,
    logs: Path,
    outcome: Outcome,
    console: Console,
) -> None:
    """All calls, `arguments.calls` at a time."""
    queue = [(kind, book, scenario) for kind, book in books.items() for scenario in book.scenarios]
    async with AsyncExitStack() as stack:
        options = () if arguments.url else ("--record-turns", str(logs))
        url = arguments.url or await stack.enter_async_context(server(console, *options))
        progress = stack.enter_context(Progress(console=console))
        task = progress.add_task("Calling", total=len(queue))

        async def caller() -> None:
            while queue:
                kind, book, scenario = queue.pop(0)
                progress.update(task, description=f"{kind.value}: {scenario.name}")
                await _attempt(url, arguments.api_key, kind, book, scenario, outcome)
                progress.advance(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(arguments.calls):
                group.create_task(caller())


async def _attempt(
    url: str, api_key: str, kind: Kind, book: Book, scenario: Scenario, outcome: Outcome
) -> None:
    problem: Exception | None = None
    for _ in range(_TRIES):
        try:
            outcome.takes.append(await perform(url, api_key, kind, book, scenario))
        except VoidError as error:
            problem = error
        except (CallError, OSError) as error:
            problem = error
            break
        else:
            return
    outcome.failures.append(f"{kind.value}: {scenario.name}: {problem}")


def judge(takes: list[Take], console: Console) -> list[Probe]:
    """The figures of every cue."""
    from duplex.ear import Ear

    ear = Ear()
    found: list[Probe] = []
    with Progress(console=console) as progress:
        for take in progress.track(takes, description="Listening"):
            of_take = probes(take)
            ear.add(take, of_take)
            found += of_take
    return found


def draw(takes: list[Take], found: list[Probe], folder: Path, console: Console) -> None:
    from duplex.picture import picture

    folder.mkdir(parents=True, exist_ok=True)
    with Progress(console=console) as progress:
        for take in progress.track(takes, description="Drawing"):
            name = f"{take.kind.value}-{take.scenario.name}"
            log = folder / "turns" / f"{take.session}.jsonl"
            mine = [p for p in found if (p.kind, p.scenario) == (take.kind, take.scenario.name)]
            picture(take, mine, log if log.exists() else None).save(folder / f"{name}.png")


def report(made: list[Row]) -> Table:
    table = Table("kind", "", "n", "figure", "value", "limit", "holds", box=None)
    for row in made:
        metric = row.metric
        share = metric.figure == "share"
        kinds = metric.kinds[0].value if len(metric.kinds) == 1 else f"{len(metric.kinds)} kinds"
        limit = ""
        if metric.limit is not None:
            limit = ("≥ " if metric.least else "≤ ") + _shown(metric.limit, share=share)
        holds = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.holds]
        table.add_row(
            kinds, metric.name, str(row.count), metric.figure, _shown(row.figure, share=share),
            limit, holds,
        )  # fmt: skip
    return table


def _shown(figure: float | None, *, share: bool) -> str:
    if figure is None:
        return "-"
    return f"{100 * figure:.1f} %" if share else f"{figure:.2f}"


def save(path: Path, made: list[Row], found: list[Probe], failures: list[str]) -> None:
    document = {
        "rows": [
            {
                "kinds": [kind.value for kind in row.metric.kinds],
                "name": row.metric.name.strip(),
                "figure": row.metric.figure,
                "count": row.count,
                "value": row.figure,
                "limit": row.metric.limit,
                "holds": row.holds,
            }
            for row in made
        ],
        "probes": [
            {"kind": p.kind.value, "scenario": p.scenario, "cue": p.cue, **p.values, **p.texts}
            for p in found
        ],
        "failures": failures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", type=Kind, help=", ".join(kind.value for kind in Kind))
    parser.add_argument("--limit", type=int, help="scenarios of each kind")
    parser.add_argument("--calls", type=int, default=1, help="simultaneous callers")
    parser.add_argument("--url", default="", help="a running server's ws://.../v1/realtime")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--pictures", type=Path, help="a timeline of each scenario goes here")
    return parser.parse_args()


def main() -> None:
    arguments, console, outcome = _options(), Console(), Outcome()
    books = {}
    for kind in arguments.kinds or Kind:
        book = load(kind)
        books[kind] = Book(book.scenarios[: arguments.limit], book.eagerness, book.reply_tokens)
    speak_missing(books, console)
    with TemporaryDirectory() as folder:
        logs = arguments.pictures / "turns" if arguments.pictures else Path(folder)
        try:
            asyncio.run(hold(books, arguments, logs, outcome, console))
        except KeyboardInterrupt:
            outcome.failures.append("interrupted: the figures are of the calls until then")
    found = judge(outcome.takes, console)
    made = rows(found)
    console.print(report(made))
    for failure in outcome.failures:
        console.print(f"[red]failed[/] {failure}", highlight=False)
    if arguments.json:
        save(arguments.json, made, found, outcome.failures)
    if arguments.pictures:
        draw(outcome.takes, found, arguments.pictures, console)
    raise SystemExit(bool(outcome.failures))


if __name__ == "__main__":
    main()
