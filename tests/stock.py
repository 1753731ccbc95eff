"""Other people's clients on a call, each in a process of its own; see tests/clients/caller.py."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from speech.audio import to_float
from speech.interfaces import Audio, Pcm

CALLS = ("pipecat_call.py", "livekit_call.py", "agents_call.mjs")
"""One for each client: a script that holds a call."""
RATE = 24_000
_PATIENCE = 150.0
"""Seconds until a client that does not end is killed; each should give up its call after 60."""
_TESTS = Path(__file__).parent
_PYTHON = _TESTS.parent / ".venv-clients/bin/python"


@dataclass(frozen=True)
class Call:
    """What the client's application saw of it: `Call` of caller.py."""

    played: list[Audio]
    interruptions: int
    asked: list[str]
    history: list[tuple[str, str]]


def command(script: str) -> list[str]:
    """How to run a client's script; skips the test where its packages are not installed."""
    if script.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            pytest.skip("there is no node")
        if not (_TESTS / "node/node_modules").is_dir():
            pytest.skip("tests/node/node_modules is missing: make test-clients")
        return [node, str(_TESTS / "node" / script)]
    if not _PYTHON.exists():
        pytest.skip(".venv-clients is missing: make test-clients")
    return [str(_PYTHON), str(_TESTS / "clients" / script)]


async def hold(script: str, url: str, lines: Sequence[Pcm]) -> Call:
    """A call on which the caller says these lines, at RATE, the second over the reply to the
    first; it ends when a reply has been played to its end."""
    given = {"url": url, "lines": [base64.b64encode(line.tobytes()).decode() for line in lines]}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command(script), stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            out, err = await process.communicate(json.dumps(given).encode())
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        pytest.fail(f"{script} did not end in {_PATIENCE} s and said: {err.decode()}")
    sys.stderr.write(err.decode())
    assert process.returncode == 0
    told = json.loads(out.splitlines()[-1])
    assert told["errors"] == []
    return Call(
        [to_float(np.frombuffer(base64.b64decode(part), np.int16)) for part in told["played"]],
        told["interruptions"],
        told["asked"],
        [(role, text.strip()) for role, text in told["history"]],
    )
