"""Voice-to-voice latency over recorded questions: `python scripts/bench.py [--calls N]`.

Every question is asked in every voice, over a real websocket, and its reply is heard out. The
latency runs from the last sample of the caller's speech to the first sample of the reply
delivered; its parts are the server's own account.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from assistant.clients.caller import Line, questions
from assistant.clients.demo import server
from assistant.clients.timeline import turns
from assistant.clients.wav import CallError, WavCaller
from duplex.words import word_error_rate

_REPLY_LIMIT = 120.0
_INSTRUCTIONS = "You are on a voice call. Answer in one or two short spoken sentences."
PARTS = ("endpointing", "asr", "first_token", "first_clause", "tts", "delivery")


@dataclass
class Figures:
    """What the calls measured; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    parts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)
    understood: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def call(
    url: str, api_key: str, lines: list[Line], figures: Figures, tick: Callable[[], None]
) -> None:
    """Ask each line in a call of its own, so that no question depends on the ones before."""
    for line in lines:
        try:
            await _ask(url, api_key, line, figures)
        except (CallError, OSError) as error:
            figures.failures.append(f"{line.name} ({line.voice}): {error}")
        tick()


async def _ask(url: str, api_key: str, line: Line, figures: Figures) -> None:
    async with WavCaller(url, api_key, {"instructions": _INSTRUCTIONS}) as caller:
        await asyncio.sleep(0.3)
        caller.say(line.audio())
        await caller.wait_for("response.done", _REPLY_LIMIT)
        await caller.played_out()
        found = await turns(caller)
        figures.gaps += [seconds for _, seconds in caller.speaker.gaps]
    if len(found) != 1 or found[0].latency is None:
        raise CallError(f"expected one spoken reply, got {len(found)}")
    figures.latencies.append(found[0].latency)
    for part, milliseconds in found[0].timing_ms.items():
        figures.parts[part].append(milliseconds / 1000)
    figures.asked.append(line.text)
    figures.understood.append(found[0].caller)


def report(figures: Figures, calls: int) -> Table:
    """The table that `make bench` prints."""
    table = Table("", "median", "p95", "worst", title=f"{len(figures.latencies)} questions, "
                  f"{calls} at a time; seconds")  # fmt: skip
    rows = {"voice to voice": figures.latencies}
    rows |= {f"  {part}": figures.parts[part] for part in PARTS if figures.parts[part]}
    for name, values in rows.items():
        if values:
            table.add_row(
                name, *(f"{v:.2f}" for v in (*np.percentile(values, (50, 95)), max(values)))
            )
    return table


async def run(arguments: argparse.Namespace, console: Console) -> Figures:
    figures = Figures()
    lines = list(islice(cycle(questions()), arguments.questions))
    shares = [lines[number :: arguments.calls] for number in range(arguments.calls)]
    async with AsyncExitStack() as stack:
        url = arguments.url or await stack.enter_async_context(server(console))
        with Progress(console=console) as progress:
            task = progress.add_task("Calling", total=len(lines))
            async with asyncio.TaskGroup() as group:
                for share in shares:
                    group.create_task(
                        call(url, arguments.api_key, share, figures, lambda: progress.advance(task))
                    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1, help="simultaneous callers")
    parser.add_argument("--questions", type=int, default=30, help="questions in all")
    parser.add_argument("--url", default="", help="a running server's ws://.../v1/realtime")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    console = Console()
    figures = asyncio.run(run(arguments, console))
    console.print(report(figures, arguments.calls))
    if figures.asked:
        error_rate = word_error_rate(figures.asked, figures.understood)
        console.print(f"word error rate of the questions: {100 * error_rate:.1f} %")
    console.print(f"underruns: {len(figures.gaps)}, {sum(figures.gaps):.2f} s in all")
    for failure in figures.failures:
        console.print(f"[red]failed[/] {failure}")
    if arguments.json:
        arguments.json.write_text(json.dumps(vars(figures), indent=1, ensure_ascii=False) + "\n")
    raise SystemExit(bool(figures.failures))


if __name__ == "__main__":
    main()
