"""What both sides said, who has the floor and how long it took, from the server's events: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from assistant.clients.line import Event


class Floor(Enum):
    """Who has it."""

    OPEN = "listening"
    YOU = "you speak"
    THINKING = "thinking"
    CONCH = "Conch speaks"


@dataclass
class Caption:
    """One side's turn."""

    who: Literal["you", "conch"]
    text: str = ""
    final: bool = False
    """No more words come."""
    latency: float | None = None
    """Of a reply: seconds from the end of the caller's speech to its first audio."""
    timing_ms: dict[str, int] = field(default_factory=dict)
    """Of a reply: the parts of that, as the server measured them."""
    samples: int = 0
    """Of a reply: how much of its audio came."""
    kept: str | None = None
    """Of a reply that was cut: what the server keeps of it as heard, once it has said so."""
    clauses: list[tuple[int, int]] = field(default_factory=list)
    """(sample at which a clause begins, characters before it)."""

    def parts(self, heard: int) -> tuple[str, str, str]:
        """(certain, still to come, never heard): the text when `heard` samples were played."""
        if self.kept is not None:
            # The server joins clauses as it heard them, so only their length is compared.
            return self.text[: len(self.kept)], "", self.text[len(self.kept) :]
        if not self.clauses:  # the caller's words, or a written reply
            return (self.text, "", "") if self.final else ("", self.text, "")
        later = (before for sample, before in self.clauses if sample >= heard)
        begun = next(later, len(self.text))
        return self.text[:begun], self.text[begun:], ""

    def settled(self, heard: int) -> bool:
        """Whether `parts` stays as it is."""
        return self.final and (self.who == "you" or self.kept is not None or heard >= self.samples)


class Captions:
    """A call's turns, by item id, in the order in which they were first heard of."""

    def __init__(self) -> None:
        self.turns: dict[str, Caption] = {}
        self.floor = Floor.OPEN
        """Whose turn it is as far as the server has said; it says nothing of when a reply has been
        played to its end."""
        self._speech_end: float | None = None
        """Second of the microphone's audio."""

    def take(self, event: Event, at: float) -> Event | None:
        """The server's next event, when `at` seconds of the microphone had been sent; perhaps a
        question to the server comes of it."""
        match event["type"]:
            case "input_audio_buffer.speech_started":
                self.floor = Floor.YOU
            case "input_audio_buffer.speech_stopped":
                self._speech_end = event["audio_end_ms"] / 1000
            case "input_audio_buffer.committed" | "response.created":
                self.floor = Floor.THINKING
            case "conversation.item.input_audio_transcription.delta":
                self._of("you", event).text += event["delta"]
            case "conversation.item.input_audio_transcription.completed":
                said = self._of("you", event)
                said.text, said.final = event["transcript"], True
            case "conversation.item.input_audio_transcription.failed":
                self._of("you", event).final = True
            case "response.done":
                return self._done(event)
            case "conversation.item.truncated" if event["item_id"] in self.turns:
                return _kept(event["item_id"])
            case "conversation.item.retrieved" if caption := self.turns.get(event["item"]["id"]):
                content = event["item"]["content"]
                caption.kept = "".join(p.get("transcript") or p.get("text") or "" for p in content)
            case _:
                self._reply(event, at)
        return None

    def _reply(self, event: Event, at: float) -> None:
        match event["type"]:
            case "response.output_audio_transcript.delta":
                caption = self._of("conch", event)
                caption.clauses.append((caption.samples, len(caption.text)))
                caption.text += event["delta"]
            case "response.output_text.delta":
                self._of("conch", event).text += event["delta"]
            case "response.output_audio.delta":
                caption = self._of("conch", event)
                if not caption.samples and self._speech_end is not None:
                    caption.latency, self._speech_end = at - self._speech_end, None
                caption.samples += event["samples"]
                self.floor = Floor.CONCH

    def _done(self, event: Event) -> Event | None:
        if self.floor is Floor.THINKING:
            self.floor = Floor.OPEN
        response = event["response"]
        for item in response.get("output", []):
            if caption := self.turns.get(item["id"]):
                caption.final = True
                caption.timing_ms = event.get("conch", {}).get("timing_ms", {})
                if response["status"] == "cancelled":
                    return _kept(item["id"])
        return None

    def _of(self, who: Literal["you", "conch"], event: Event) -> Caption:
        return self.turns.setdefault(event["item_id"], Caption(who))


def _kept(item_id: str) -> Event:
    return {"type": "conversation.item.retrieve", "item_id": item_id}
