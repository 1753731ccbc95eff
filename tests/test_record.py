"""A recorded call is replayed to the same commands; a recording that is none is named."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from typer.testing import CliRunner

from assistant import floor
from assistant.cli import app
from assistant.config import CallConfig, Config
from assistant.record import RecordError, TurnLog, replay
from assistant.turns import State
from tests.calls import AUDIO, Client, call, storyteller


async def conversation(client: Client) -> None:
    """A turn with a pause in it, a long reply, a backchannel over it, an interruption."""
    client.configure(turn_detection={"type": "semantic_vad", "eagerness": "low"})
    await client.say("tell me")
    await client.quiet(0.4)
    await client.say("a story")
    await client.until(AUDIO, 25)
    await client.say("mm-hmm")
    await client.quiet(1.0)
    await client.say("no stop that please now")
    await client.until("response.done", 2)


def recorded(folder: Path) -> tuple[Client, Path]:
    config = structs.replace(Config(), call=CallConfig(record_turns=str(folder)))
    client = call(conversation, engines=storyteller(), config=config)
    (path,) = folder.iterdir()
    return client, path


def changed(path: Path, line: int, **fields: Any) -> Path:
    lines = path.read_text().splitlines()
    lines[line - 1] = json.dumps({**json.loads(lines[line - 1]), **fields})
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_whole_call_replays_to_the_same_commands(tmp_path: Path) -> None:
    client, path = recorded(tmp_path / "not" / "yet")
    assert path.stem == client.all("session.created")[0]["session"]["id"]
    steps = list(replay(path))
    told = {type(step.event).__name__ for step in steps}
    assert {"Configured", "SpeechStarted", "EndpointScored", "ReplyDelivered", "NoneType"} <= told
    commands = [command for step in steps for command in step.commands]
    cancelled = [command for command in commands if isinstance(command, floor.CancelReply)]
    assert [command.reason for command in cancelled] == ["turn_detected"]
    assert len([c for c in commands if isinstance(c, floor.CommitTurn)]) == 2
    assert steps[0].before is State.IDLE
    assert all(a.after is b.before for a, b in itertools.pairwise(steps))


def test_the_command_shows_every_decision_also_in_another_process(tmp_path: Path) -> None:
    _, path = recorded(tmp_path)
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "assistant", "replay", str(path)],
        env={**os.environ, "COLUMNS": "240"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any("caller → paused" in line and "SpeechPaused" in line for line in lines)
    assert re.search(r"CancelReply reply=\d+ reason='turn_detected'", done.stdout)
    assert "DiscardTurn turn=2" in done.stdout


def test_commands_that_differ_are_named(tmp_path: Path) -> None:
    _, path = recorded(tmp_path)
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    at = next(n for n, step in enumerate(steps) if step.get("commands"))
    changed(path, at + 1, commands=[{"type": "HoldReply", "reply": 7}])
    result = CliRunner().invoke(app, ["replay", str(path)], prog_name="conch")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    expected = "expected command 1 to be HoldReply(reply=7), got "
    assert line.startswith(f"conch: {path}: line {at + 1}: {expected}")
    assert "IDLE" in result.stdout.upper(), "the timeline up to there is shown"


@pytest.mark.parametrize(
    ("line", "fields", "message"),
    [
        (1, {"format": 99}, "line 1: expected format 1, got 99"),
        (1, {"began": "x"}, "line 1: expected the head of a recorded call: "),
        (1, {"policy": {"patience": 1}}, "line 1: expected profile, .* got 'patience'"),
        (2, {"event": {"type": "Sneezed"}}, "line 2: expected one of SpeechStarted, .* 'Sneezed'"),
        (2, {"event": {"type": "ReplyFinished"}}, "line 2: ReplyFinished: .*missing.*reply"),
        (2, {"commands": [{"type": "Refuse", "code": 1}]}, "line 2: Refuse: Expected `str`"),
        (3, {"extra": 1}, "line 3: expected a step of a call: .*extra"),
    ],
)
def test_what_is_no_recording_is_named(
    tmp_path: Path, line: int, fields: dict[str, Any], message: str
) -> None:
    _, path = recorded(tmp_path)
    with pytest.raises(RecordError, match=message):
        list(replay(changed(path, line, **fields)))


def test_a_line_cut_short_is_named(tmp_path: Path) -> None:
    _, path = recorded(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(RecordError, match=f"line {len(whole.splitlines())}: expected a step"):
        list(replay(path))


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = call(conversation, engines=storyteller())
    assert client.all("response.done")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    config = structs.replace(Config(), call=CallConfig(record_turns=str(blocked)))
    with caplog.at_level(logging.ERROR, "assistant.record"):
        client = call(conversation, engines=storyteller(), config=config)
    assert len(client.all("response.done")) == 2
    (record,) = caplog.records
    assert "the call's turns are not recorded" in record.getMessage()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "call.jsonl").symlink_to("/dev/full")
    log = TurnLog(str(tmp_path), "call", floor.Policy(), 0.0)
    commands: list[floor.Command] = [floor.Refuse("x")]
    assert log.note(1.0, floor.ClearRequested(), commands) is commands
    assert log.note(2.0, None, []) == []
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'call.jsonl'}: the call's turns are not recorded: No space left on device"
    ]
