"""A scenario's timeline as a picture: the caller, the reply as played, states, decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from assistant.clients.wav import RATE
from assistant.floor import Command
from assistant.record import Step, began, replay
from assistant.turns import State
from duplex.measures import Probe
from duplex.take import COMMITTED, Take
from speech.interfaces import Pcm

_WIDTH, _LEFT, _RIGHT = 1600, 110, 20
_TOP, _WAVE, _BAND, _ROW, _GAP, _AXIS = 72, 84, 24, 16, 18, 30
_LONGEST = 34
"""Characters of a command's words that are shown."""
_QUESTIONS = frozenset(("ScoreEndpoint", "Transcribe", "Prefill"))
"""Commands that decide nothing: they ask."""
_INK, _PALE, _CALLER, _REPLY, _OTHER, _PAUSE = (
    "#222222", "#dddddd", "#1f77b4", "#2ca02c", "#98c379", "#fdf1cc"
)  # fmt: skip
_STATES = (
    "#eeeeee", "#aec7e8", "#ffe08a", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94"
)  # fmt: skip


def picture(take: Take, found: list[Probe], log: Path | None) -> Image.Image:
    """`log` is the server's recording of the call's turns, where this machine has it."""
    steps = list(replay(log)) if log else []
    # The caller counts from when its connection stood, the server from about then.
    later = began(log) - take.began if log else 0.0
    return _Sheet(take, steps, later).draw(_title(take, found))


def _title(take: Take, found: list[Probe]) -> list[str]:
    lines = [f"{take.kind.value}: {take.scenario.name} ({take.scenario.voice})"]
    for probe in found:
        values = "  ".join(f"{name} {value:.2f}" for name, value in probe.values.items())
        lines.append(f"{probe.cue}   {values}")
    return lines


class _Sheet:
    """Lanes under each other, on one axis of time."""

    def __init__(self, take: Take, steps: list[Step], later: float) -> None:
        self._take, self._steps, self._later = take, steps, later
        microphone = np.zeros(0, np.int16) if take.microphone is None else take.microphone
        self._microphone: Pcm = microphone
        ends = [len(microphone), *(part.start + len(part.pcm) for part in take.played)]
        self._seconds = max(1.0, max(ends) / RATE, *(at for at, _ in take.events)) + 0.2
        self._font = ImageFont.load_default(12)
        self._labels = list(self._placed())
        self._rows = 1 + max((row for row, _, _ in self._labels), default=0)

    def draw(self, title: list[str]) -> Image.Image:
        top = _TOP + max(0, len(title) - 2) * _ROW
        height = top + 2 * (_WAVE + _GAP) + _BAND + _GAP + self._rows * _ROW + _AXIS
        image = Image.new("RGB", (_WIDTH, height), "white")
        self._draw = ImageDraw.Draw(image)
        self._text(10, 8, title[0], ImageFont.load_default(16))
        for number, line in enumerate(title[1:]):
            self._text(10, 32 + number * _ROW, line)
        self._axis(top, height - _AXIS)
        self._caller(top)
        self._reply(top + _WAVE + _GAP)
        self._state(top + 2 * (_WAVE + _GAP))
        self._decisions(top + 2 * (_WAVE + _GAP) + _BAND + _GAP)
        return image

    def _x(self, second: float) -> int:
        return _LEFT + round(second / self._seconds * (_WIDTH - _LEFT - _RIGHT))

    def _text(
        self,
        x: int,
        y: int,
        text: str,
        font: ImageFont.ImageFont | ImageFont.FreeTypeFont | None = None,
    ) -> None:
        self._draw.text((x, y), text, fill=_INK, font=font or self._font)

    def _axis(self, top: int, bottom: int) -> None:
        every = 0.5 if self._seconds < 15 else 1.0
        for number in range(int(self._seconds / every) + 1):
            x = self._x(number * every)
            self._draw.line((x, top, x, bottom), fill=_PALE)
            self._text(x - 8, bottom + 6, f"{number * every:g}")
        self._text(10, bottom + 6, "seconds")

    # --- lanes --------------------------------------------------------------------------------

    def _caller(self, top: int) -> None:
        self._text(10, top + _WAVE // 2 - 8, "microphone")
        for cue in self._take.cues:
            for begin, end in cue.pauses:
                self._draw.rectangle((self._x(begin), top, self._x(end), top + _WAVE), fill=_PAUSE)
        self._wave(top, self._microphone, 0, _CALLER)
        for cue in self._take.cues:
            what = cue.cue.say or cue.cue.noise or cue.cue.other
            for at in (cue.start, cue.end):
                self._draw.line((self._x(at), top, self._x(at), top + _WAVE), fill=_CALLER)
            self._text(self._x(cue.start), top - 15, what)

    def _reply(self, top: int) -> None:
        self._text(10, top + _WAVE // 2 - 8, "loudspeaker")
        for part in self._take.played:
            colour = _REPLY if part.item_id == self._take.reply else _OTHER
            self._wave(top, part.pcm, part.start, colour)
        for at, _ in self._take.cuts:
            self._mark(at, top, "emptied")
        for at, _ in self._take.of(COMMITTED):
            self._mark(at, top, "turn committed")

    def _mark(self, at: float, top: int, text: str) -> None:
        self._draw.line((self._x(at), top, self._x(at), top + _WAVE), fill="#d62728", width=2)
        self._text(self._x(at) + 4, top + _WAVE - 14, text)

    def _wave(self, top: int, pcm: Pcm, start: int, colour: str) -> None:
        """The loudest sample of each column, on a scale of decibels from -60 to 0."""
        middle, first = top + _WAVE // 2, self._x(start / RATE)
        columns = max(1, self._x((start + len(pcm)) / RATE) - first)
        for number, part in enumerate(np.array_split(np.abs(pcm.astype(np.float32)), columns)):
            peak = float(part.max()) if len(part) else 0.0
            level = max(0.0, 1 + np.log10(max(peak, 1.0) / 32768) / 3)
            half = round(level * _WAVE / 2)
            if half:
                x = first + number
                self._draw.line((x, middle - half, x, middle + half), fill=colour)

    def _state(self, top: int) -> None:
        if not self._steps:
            return
        self._text(10, top + 5, "state")
        states = list(State)
        nexts = [step.at + self._later for step in self._steps[1:]] + [self._seconds]
        begin = 0.0
        for step, end in zip(self._steps, nexts, strict=True):
            if step.after is not step.before or end == self._seconds:
                colour = _STATES[states.index(step.before) % len(_STATES)]
                self._stretch(top, begin, step.at + self._later, step.before.value, colour)
                begin = step.at + self._later
        after = self._steps[-1].after
        colour = _STATES[states.index(after) % len(_STATES)]
        self._stretch(top, begin, self._seconds, after.value, colour)

    def _stretch(self, top: int, begin: float, end: float, name: str, colour: str) -> None:
        left, right = self._x(max(0.0, begin)), self._x(max(0.0, end))
        if right > left:
            self._draw.rectangle((left, top, right, top + _BAND), fill=colour, outline="white")
            if self._font.getlength(name) < right - left - 4:
                self._text(left + 3, top + 5, name)

    # --- decisions ----------------------------------------------------------------------------

    def _decisions(self, top: int) -> None:
        if self._labels:
            self._text(10, top, "decisions")
        for row, at, _ in self._labels:
            bottom = top + row * _ROW + 12
            self._draw.line((self._x(at), top - _GAP, self._x(at), bottom), fill="#999999")
        for row, at, text in self._labels:
            x, y, width = self._label_x(at, text), top + row * _ROW, self._font.getlength(text)
            self._draw.rectangle((x - 1, y, x + 1 + width, y + _ROW - 2), fill="white")
            self._text(x, y, text)

    def _label_x(self, at: float, text: str) -> int:
        """Right of its time, unless the picture ends before the text does."""
        return min(self._x(at) + 3, _WIDTH - 4 - round(self._font.getlength(text)))

    def _placed(self) -> Iterable[tuple[int, float, str]]:
        """(row, second, text) of each decision, so that no two lie upon each other."""
        ends: list[float] = []
        for step in self._steps:
            for command in step.commands:
                if type(command).__name__ in _QUESTIONS:
                    continue
                at = max(0.0, step.at + self._later)
                text = _brief(command)
                x, width = self._label_x(at, text), self._font.getlength(text) + 8
                row = next((n for n, end in enumerate(ends) if end <= x), len(ends))
                ends[row : row + 1] = [x + width]
                yield row, at, text


def _brief(command: Command) -> str:
    """Its name, its words, and what is true of it; not the request, which is only an id."""
    told = [type(command).__name__]
    for field in fields(command):
        value = getattr(command, field.name)
        if isinstance(value, str) and value and field.name != "request":
            told.append(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")
        elif value is True:
            told.append(field.name)
    return " ".join(told)
