"""What the benchmark's callers do: scenario files, one a kind, scripts/scenarios/KIND.toml.

A scenario is one call. Its cues say who is heard when; where it has a `reply`, that is what the
assistant is asked first, in writing, and the cues' times count from the reply's first sound.
"Could you tell me, um, [1.2] how long an egg takes?" is spoken whole, then 1.2 s of silence are
put in where the brackets are.
"""

from __future__ import annotations

import enum
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

FOLDER = Path(__file__).parent.parent / "scenarios"
VOICES = ("af_heart", "am_michael", "bf_emma", "bm_lewis", "am_puck")
"""Reserved for this benchmark: nothing may be fitted on them."""
Voice = Literal["af_heart", "am_michael", "bf_emma", "bm_lewis", "am_puck"]
_PAUSE = re.compile(r"\s*\[(\d+(?:\.\d+)?)\]\s*")


class ScenarioError(ValueError):
    """One line: the file, the scenario, what was expected and what came."""


class Kind(enum.Enum):
    """In the order of the table."""

    FINISHED = "finished"
    PAUSES = "pauses"
    PATIENT = "patient"
    INTERRUPTIONS = "interruptions"
    STOPS = "stops"
    BACKCHANNELS = "backchannels"
    NOISE = "noise"
    ECHO = "echo"
    OVER_ECHO = "over_echo"
    SIDE_TALK = "side_talk"

    @property
    def takes_floor(self) -> bool:
        """Whether what the caller says is a turn that wants an answer."""
        return self in _TURNS


_TURNS = (
    Kind.FINISHED, Kind.PAUSES, Kind.PATIENT, Kind.INTERRUPTIONS, Kind.STOPS, Kind.OVER_ECHO
)  # fmt: skip


class Cue(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is heard; exactly one of `say`, `noise` and `other`."""

    at: Annotated[float, Meta(ge=0)] = 0.3
    """Seconds since the reply's first sound, or since the call began."""
    say: str = ""
    """The caller's words, with pauses in brackets."""
    noise: Literal["", "cough", "door", "keyboard", "babble"] = ""
    other: str = ""
    """Words of somebody else in the room."""
    level_db: Annotated[float, Meta(ge=-60, le=0)] = -15.0
    """Of noises and others, relative to the caller's speech."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    voice: Voice
    cues: tuple[Cue, ...] = ()
    reply: str = ""
    """What the assistant is asked first; empty: nothing."""
    echo_ms: Annotated[int, Meta(ge=0, le=250)] = 0
    """Delay from the loudspeaker to the microphone; 0: the caller wears headphones."""


class Book(Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario file."""

    scenarios: tuple[Scenario, ...]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    reply_tokens: Annotated[int, Meta(ge=1)] = 40
    """Limit of the first reply."""


class Script(Struct, frozen=True):
    """A cue's words, and where the speaker pauses in them."""

    text: str
    pauses: tuple[tuple[int, float], ...] = ()
    """(characters of the text before it, seconds)."""


def script(words: str) -> Script:
    """Raises ScenarioError for a pause that has no words on both sides."""
    text, pauses = "", []
    parts = _PAUSE.split(words)
    for number, part in enumerate(parts):
        if number % 2:
            pauses.append((len(text), float(part)))
        elif not part.strip():
            if len(parts) > 1:
                raise ScenarioError(f"expected words before and after each pause, got {words!r}")
        else:
            text += f" {part}" if text else part
    return Script(text, tuple(pauses))


def load(kind: Kind, folder: Path = FOLDER) -> Book:
    """The scenarios of a kind. Raises ScenarioError."""
    path = folder / f"{kind.value}.toml"
    try:
        book = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Book)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # tomllib's, UTF-8 decoding's and msgspec's
        raise ScenarioError(f"{path}: {error}") from None
    names: set[str] = set()
    for scenario in book.scenarios:
        try:
            _check(kind, scenario, names)
        except ScenarioError as error:
            raise ScenarioError(f"{path}: {scenario.name}: {error}") from None
        names.add(scenario.name)
    return book


def _check(kind: Kind, scenario: Scenario, names: set[str]) -> None:
    if scenario.name in names:
        raise ScenarioError("expected names that differ, got this one twice")
    for cue in scenario.cues:
        if sum(map(bool, (cue.say, cue.noise, cue.other))) != 1:
            raise ScenarioError(f"expected one of say, noise and other, got {cue}")
        script(cue.say)
    if list(scenario.cues) != sorted(scenario.cues, key=lambda cue: cue.at):
        raise ScenarioError("expected cues in the order of their times")
    said = [cue for cue in scenario.cues if cue.say]
    if kind.takes_floor and len(said) != 1:
        raise ScenarioError(f"expected one cue that says something, got {len(said)}")
    if kind in {Kind.PAUSES, Kind.PATIENT} and not script(said[0].say).pauses:
        raise ScenarioError(f"expected a pause such as [1.2], got {said[0].say!r}")
    if kind in {Kind.ECHO, Kind.OVER_ECHO} and not (scenario.echo_ms and scenario.reply):
        raise ScenarioError("expected a reply and the delay of its echo, got none")
