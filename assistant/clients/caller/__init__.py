"""Recorded callers for the demo, the tests and the benchmarks."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.clients.wav import load
from speech.interfaces import Pcm

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Line:
    """Something that a recorded caller says."""

    name: str
    text: str
    voice: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}-{self.voice}.flac"

    def audio(self) -> Pcm:
        """The recording, int16 mono at 24 kHz. Raises CallError."""
        return load(self.path)


def questions() -> list[Line]:
    """Every question in every voice, the voices taking turns."""
    lines = _lines()
    return [
        Line(name, text, voice)
        for name, text in lines["questions"].items()
        for voice in lines["voices"]
    ]


def demo() -> dict[str, Line]:
    """The demo's lines by name."""
    lines = _lines()
    return {name: Line(name, text, lines["demo_voice"]) for name, text in lines["demo"].items()}


def wake_words() -> list[Line]:
    """Every wake word in every voice that says one; the names are those of `conch kiosk`."""
    lines = _lines()
    return [
        Line(name, text, voice)
        for name, text in lines["wake"].items()
        for voice in lines["wake_voices"]
    ]


def _lines() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "lines.toml").read_text())
