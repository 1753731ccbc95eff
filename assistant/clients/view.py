"""A call in the terminal: captions of both sides, who has the floor, how long each answer took.

On a terminal it is one panel that changes; anywhere else, a line for each turn once it is settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from assistant.clients.call import Call
from assistant.clients.captions import Caption, Captions, Floor
from assistant.clients.line import Event

_EVERY = 0.1
_SHOWN = 12
_NAMES = {"you": ("you    ", "bold cyan"), "conch": ("conch  ", "bold green")}
_FLOORS = {Floor.OPEN: "default", Floor.YOU: "cyan", Floor.THINKING: "yellow", Floor.CONCH: "green"}
_PARTS = {
    "endpointing": "end of turn",
    "asr": "words",
    "first_token": "first token",
    "first_clause": "clause",
    "tts": "voice",
}


class View:
    """Shows one call from when it is entered until it is left."""

    def __init__(
        self, console: Console, call: Call, keys: str = "", note: Callable[[], str] = str
    ) -> None:
        """`keys` is a line of help; `note` says what else is to be known now, as "muted"."""
        self._console, self._call, self._keys, self._note = console, call, keys, note
        self._captions = Captions()
        self._taken = 0
        self._printed = 0

    async def show(self) -> None:
        """Until cancelled."""
        if not self._console.is_terminal:
            try:
                await self._follow(self._print)
            finally:
                self._print(to_the_end=True)
            return
        with Live(console=self._console, refresh_per_second=10) as live:
            await self._follow(lambda: live.update(self.panel()))

    async def _follow(self, update: Callable[[], None]) -> None:
        try:
            while True:
                for question in self._catch_up():
                    await self._call.send(question)
                update()
                await asyncio.sleep(_EVERY)
        finally:
            self._catch_up()
            update()

    def _catch_up(self) -> list[Event]:
        """Read the call's latest events; what is to be asked because of them."""
        news = self._call.events[self._taken :]
        self._taken += len(news)
        asked = [self._captions.take(event, at) for at, event in news]
        return [] if self._call.closed else [question for question in asked if question]

    def panel(self) -> Panel:
        lines: list[RenderableType] = [
            _caption(caption, self._heard(item_id))
            for item_id, caption in list(self._captions.turns.items())[-_SHOWN:]
            if caption.text
        ]
        floor = self._captions.floor
        if floor is Floor.CONCH and self._call.position() >= self._call.speaker.end:
            floor = Floor.OPEN
        title = Text(f"{self._call.now:5.1f} s  ").append(floor.value, _FLOORS[floor])
        notes = [self._note(), "" if self._call.line.up else "no connection, trying again"]
        title.append("".join(f"  {note}" for note in notes if note), "bold red")
        return Panel(Group(*lines), title=title, title_align="left", subtitle=self._keys or None)

    def _print(self, *, to_the_end: bool = False) -> None:
        turns = list(self._captions.turns.items())
        while self._printed < len(turns):
            item_id, caption = turns[self._printed]
            if not (caption.settled(self._heard(item_id)) or to_the_end):
                return
            self._printed += 1
            if caption.text:
                self._console.print(_line(caption, self._heard(item_id)), soft_wrap=True)

    def _heard(self, item_id: str) -> int:
        return self._call.speaker.heard(item_id, self._call.position())


def _caption(caption: Caption, heard: int) -> Text:
    text = Text(*_NAMES[caption.who])
    for part, style in zip(
        caption.parts(heard), ("default", "bright_black", "strike"), strict=True
    ):
        text.append(part, style)
    if caption.latency is not None:
        text.append(f"  {caption.latency:.2f} s", "yellow")
        parts = [f"{name} {caption.timing_ms[key]}" for key, name in _PARTS.items()
                 if key in caption.timing_ms]  # fmt: skip
        text.append(f"  ({', '.join(parts)} ms)" if parts else "", "bright_black")
    return text


def _line(caption: Caption, heard: int) -> Text:
    """The same without colours to tell the parts by."""
    certain, coming, unheard = caption.parts(heard)
    text = Text(_NAMES[caption.who][0] + certain + coming)
    if unheard:
        text.append(f" [never heard:{'' if unheard[0] == ' ' else ' '}{unheard.rstrip()}]")
    if caption.latency is not None:
        text.append(f"  ({caption.latency:.2f} s)")
    return text
