"""What happened in one scenario's call, and the questions that can be asked of it. Pure.

All times are seconds of the call."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from assistant.clients.wav import RATE, Event, Played
from duplex.scenario import Cue, Kind, Scenario
from speech.interfaces import Pcm

AUDIO = "response.output_audio.delta"
COMMITTED = "input_audio_buffer.committed"
UNDERSTOOD = "conversation.item.input_audio_transcription.completed"
DONE = "response.done"


@dataclass(frozen=True, slots=True)
class Sounded:
    """A cue as it was heard."""

    cue: Cue
    start: float
    """Its first audible sample."""
    end: float
    """Its last one."""
    pauses: tuple[tuple[float, float], ...] = ()
    """(begin, end) of the pauses inside it."""
    pcm: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    """What the caller said, on its own."""


@dataclass(slots=True)
class Take:
    kind: Kind
    scenario: Scenario
    cues: list[Sounded] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    """What came from the server and when, audio deltas without their audio."""
    played: list[Played] = field(default_factory=list)
    """What the loudspeaker played, cut short where it was emptied."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """(begin, seconds) of silences within a reply."""
    cuts: list[tuple[float, str]] = field(default_factory=list)
    """(time, item) for each time that the loudspeaker was emptied."""
    kept: str = ""
    """What the server keeps of the first reply as heard."""
    session: str = ""
    began: float = 0.0
    """The clock (of this machine, as the server's loop reads it) when the call began."""
    microphone: Pcm | None = None

    @property
    def reply(self) -> str:
        """The item of the first reply that was asked for; empty when none was."""
        if not self.scenario.reply:
            return ""
        return next((event["item_id"] for _, event in self.of(AUDIO)), "")

    def of(self, kind: str, after: float = 0.0) -> list[tuple[float, Event]]:
        return [(at, event) for at, event in self.events if event["type"] == kind and at >= after]

    def delivered(self, item: str = "", after: float = 0.0) -> list[float]:
        """When audio arrived: that of one item, or of all but the first reply's."""
        return [
            at
            for at, event in self.of(AUDIO, after)
            if (event["item_id"] == item if item else event["item_id"] != self.reply)
        ]

    def last_played(self, item: str) -> float:
        """When the loudspeaker played the item's last sample."""
        return max(
            ((p.start + len(p.pcm)) / RATE for p in self.played if p.item_id == item), default=0.0
        )

    def status(self, item: str) -> str:
        """That of the response which the item belongs to; empty while it is not done."""
        for _, event in self.of(DONE):
            if any(output["id"] == item for output in event["response"]["output"]):
                return str(event["response"]["status"])
        return ""

    def written(self, item: str) -> str:
        """All words that were sent of an item."""
        kind = "response.output_audio_transcript.delta"
        return "".join(event["delta"] for _, event in self.of(kind) if event["item_id"] == item)

    def understood(self, after: float = 0.0) -> str:
        """The caller's words, as the server has them."""
        return " ".join(event["transcript"] for _, event in self.of(UNDERSTOOD, after))
