"""A call's turn events and the turn manager's answers, a JSON line each; and their replay.

The first line is the head. Each further line is one step of the manager: when, what it was told
(null: its deadline had passed) and what it answered. Times are the recording loop's own, to the
last bit, since the manager computes with them. Types go by their names in `floor.Event` and
`floor.Command`, so that a new one needs nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

import msgspec
from msgspec import Struct

from assistant.floor import Command, Event, Policy
from assistant.turns import State, TurnManager

_log = logging.getLogger(__name__)

FORMAT = 1
_EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
_COMMANDS: dict[str, type[Command]] = {kind.__name__: kind for kind in get_args(Command)}
_T = TypeVar("_T")


class RecordError(ValueError):
    """One line: the file, the line in it, what was expected and what came."""


class _Head(Struct, frozen=True):
    format: int
    began: float
    """Loop time at which the call began."""
    policy: dict[str, Any]


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    at: float
    event: dict[str, Any] | None
    commands: list[dict[str, Any]]


# --- writing ------------------------------------------------------------------------------


class TurnLog:
    """Where one call's steps go; nowhere when `folder` is empty."""

    def __init__(self, folder: str, name: str, policy: Policy, began: float) -> None:
        """`policy` is the manager's at first, `began` the loop's time."""
        self._file: BinaryIO | None = None
        if not folder:
            return
        self._path = Path(folder).expanduser() / f"{name}.jsonl"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        except OSError as error:
            self._give_up(error)
        self._write(_Head(FORMAT, began, msgspec.to_builtins(policy)))

    def note(self, at: float, event: Event | None, commands: list[Command]) -> list[Command]:
        """Record one step; answers its commands."""
        if self._file:
            said = _named(event) if event else None
            self._write(_Line(at, said, [_named(command) for command in commands]))
        return commands

    def close(self) -> None:
        file, self._file = self._file, None
        if file:
            with suppress(OSError):  # what could not be written was logged when it was
                file.close()

    def _write(self, line: _Head | _Line) -> None:
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
            # So that the log of a server that was killed is whole.
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A full disk must not end the call."""
        _log.error("%s: the call's turns are not recorded: %s", self._path, error.strerror)
        self.close()


def _named(value: Event | Command) -> dict[str, Any]:
    return {"type": type(value).__name__, **msgspec.to_builtins(value)}


def described(value: Event | Command) -> str:
    """`SpeechPaused silence=0.1 speech=1.2`: what people read of it."""
    told = ((field.name, getattr(value, field.name)) for field in fields(value))
    return " ".join([type(value).__name__, *(f"{name}={_short(it)}" for name, it in told)])


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value!r}"


# --- reading ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recorded call, run again. Times are seconds of the call."""

    at: float
    event: Event | None
    """None: the deadline had passed."""
    before: State
    after: State
    commands: list[Command]
    deadline: float | None


def began(path: Path) -> float:
    """The recording loop's time at the start of the call. Raises RecordError and OSError."""
    with path.open("rb") as file:
        return _head(path, file.readline()).began


def replay(path: Path) -> Iterator[Step]:
    """Run the recorded events through a new turn manager. Raises OSError, and RecordError for a
    file that is no such recording or, after that step, for commands that differ."""
    with path.open("rb") as file:
        head = _head(path, file.readline())
        turns = TurnManager(_checked(Policy, head.policy, f"{path}: line 1"))
        for number, raw in enumerate(file, start=2):
            where = f"{path}: line {number}"
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError as error:
                raise RecordError(f"{where}: expected a step of a call: {error}") from None
            event = None if line.event is None else _typed(_EVENTS, line.event, where)
            recorded = [_typed(_COMMANDS, command, where) for command in line.commands]
            before = turns.state
            given = turns.fire(line.at) if event is None else turns.receive(event, line.at)
            due = turns.timer()
            deadline = None if due is None else due - head.began
            yield Step(line.at - head.began, event, before, turns.state, given, deadline)
            _compare(where, recorded, given)


def _head(path: Path, raw: bytes) -> _Head:
    try:
        head = msgspec.json.decode(raw, type=_Head)
    except msgspec.DecodeError as error:
        raise RecordError(
            f"{path}: line 1: expected the head of a recorded call: {error}"
        ) from None
    if head.format != FORMAT:
        raise RecordError(f"{path}: line 1: expected format {FORMAT}, got {head.format}")
    return head


def _typed(kinds: dict[str, type[_T]], given: dict[str, Any], where: str) -> _T:
    name = given.pop("type", None)
    if name not in kinds:
        raise RecordError(f"{where}: expected one of {', '.join(kinds)}, got {name!r}")
    return _checked(kinds[name], given, f"{where}: {name}")


def _checked(kind: type[_T], given: dict[str, Any], where: str) -> _T:
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # all are dataclasses
    if strange := [name for name in given if name not in known]:
        raise RecordError(f"{where}: expected {', '.join(known) or 'no field'}, got {strange[0]!r}")
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise RecordError(f"{where}: {error}") from None


def _compare(where: str, recorded: Sequence[Command], given: Sequence[Command]) -> None:
    """Raises RecordError that names the first command that differs."""
    for number in range(max(len(recorded), len(given))):
        was = recorded[number] if number < len(recorded) else "nothing"
        now = given[number] if number < len(given) else "nothing"
        if was != now:
            raise RecordError(f"{where}: expected command {number + 1} to be {was}, got {now}")
