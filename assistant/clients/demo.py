"""`conch demo`: a whole call on a machine with no microphone, shown live and recorded."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assistant.clients.caller import demo
from assistant.clients.timeline import Turn, save, turns
from assistant.clients.view import View
from assistant.clients.wav import CallError, WavCaller

_LOADING_LIMIT = 180.0
_REPLY_LIMIT = 90.0
_INTERRUPT_AFTER = 4.0
"""Seconds of the long reply that the caller hears before breaking in."""


async def run(output_dir: Path, url: str | None = None, api_key: str = "") -> list[Turn]:
    """Hold the demo call with the server at `url` (ws://.../v1/realtime), or with one started
    for it, and write demo.wav and demo.json. Raises CallError."""
    console = Console()
    output_dir.mkdir(parents=True, exist_ok=True)
    async with (
        server(console) if url is None else _given(url) as address,
        WavCaller(address, api_key) as caller,
    ):
        showing = asyncio.create_task(View(console, caller).show())
        try:
            await _converse(caller)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        found = await turns(caller)
    wav, timeline = output_dir / "demo.wav", output_dir / "demo.json"
    save(caller, found, wav, timeline)
    console.print(summary(found))
    console.print(f"The call, you left and Conch right: {wav}\nIts timeline: {timeline}")
    return found


async def _converse(caller: WavCaller) -> None:
    lines = demo()
    caller.say(lines["hello"].audio())
    await _hear_out(caller)
    caller.say(lines["story"].audio())
    answer = await caller.wait_for("response.output_audio_transcript.delta", _REPLY_LIMIT)
    await caller.hear(answer["item_id"], _INTERRUPT_AFTER)
    caller.say(lines["stop"].audio())
    await caller.wait_for("response.done", _REPLY_LIMIT)
    await _hear_out(caller)
    caller.say(lines["thanks"].audio())
    await _hear_out(caller)


async def _hear_out(caller: WavCaller) -> None:
    await caller.wait_for("response.done", _REPLY_LIMIT)
    # Skip the captions of this reply, so that the next wait for one sees the next reply.
    caller.forget("response.output_audio_transcript.delta")
    await caller.played_out()
    await asyncio.sleep(0.5)


# --- a server of its own ----------------------------------------------------------------------


@asynccontextmanager
async def _given(url: str) -> AsyncIterator[str]:
    yield url


@asynccontextmanager
async def server(console: Console, *options: str) -> AsyncIterator[str]:
    """A server in a process of its own, ready; answers its websocket's URL. Raises CallError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assistant", "serve", "--port", str(port), *options,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _loaded(console, f"http://127.0.0.1:{port}/healthz", process)
        yield f"ws://127.0.0.1:{port}/v1/realtime"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _loaded(console: Console, url: str, process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_LOADING_LIMIT):
            with console.status("Starting the server") as status:
                while (health := await asyncio.to_thread(_health, url))["status"] != "ok":
                    if health["status"] == "failed":
                        raise CallError(f"the server could not load: {health['reason']}")
                    if process.returncode is not None:
                        raise CallError(f"the server ended with code {process.returncode}")
                    stage, done = health.get("stage", ""), health.get("progress", 0.0)
                    status.update(f"Loading {stage} {done:.0%}" if stage else "Starting the server")
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise CallError(f"expected the server to load in {_LOADING_LIMIT:g} s") from None


def _health(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        body = json.load(error)
    except OSError:
        return {"status": "starting"}
    return body


# --- what is shown ----------------------------------------------------------------------------


def summary(found: list[Turn]) -> Table:
    """One row a reply."""
    table = Table("You said", "Conch said", "heard", "voice to voice", title="The call")
    for turn in found:
        kept = "all" if turn.status == "completed" else f"{len(turn.heard.split())} words"
        latency = "" if turn.latency is None else f"{turn.latency:.2f} s"
        table.add_row(turn.caller, turn.reply, kept, latency)
    return table
