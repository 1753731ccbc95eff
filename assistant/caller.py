"""The caller's turns as conversation items: one item id through all events of a turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assistant.conversation import Conversation, caller_turn
from assistant.wire import realtime as wire
from assistant.wire.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class Committed:
    """A turn that is over for the client, while its last words may still be recognised."""

    item_id: str
    told: int
    """Characters of its words that the client has."""
    seconds: float
    """How long it was."""


class CallerTurns:
    """The turn under way, and what the client is told of it and of those before."""

    def __init__(
        self,
        send: Callable[[list[dict[str, Any]]], None],
        conversation: Conversation,
        settings: SessionSettings,
    ) -> None:
        self._send, self._conversation, self._settings = send, conversation, settings
        self.item_id = ""
        """Of the turn under way; empty between turns."""
        self._told = 0

    def open(self) -> None:
        self.item_id, self._told = wire.new_id("item"), 0

    def close(self) -> None:
        """The turn under way is none after all."""
        self.item_id = ""

    def started(self, at_ms: int) -> None:
        self._send([wire.speech_started(self.item_id, at_ms)])

    def stopped(self, at_ms: int) -> None:
        self._send([wire.speech_stopped(self.item_id, at_ms)])

    def caption(self, text: str) -> None:
        """Tell those of the turn's words that the client lacks; `text` only ever grows."""
        if self._settings.transcription and len(text) > self._told:
            self._send([wire.transcription_delta(self.item_id, text[self._told :])])
            self._told = len(text)

    def commit(self, seconds: float) -> Committed:
        """The turn becomes an item of the conversation, its words still to come."""
        item = caller_turn(self.item_id)
        self.close()
        previous = self._conversation.add(item)
        self._send(
            [
                wire.input_audio_buffer_committed(item.id, previous),
                wire.conversation_item_added(item.to_wire(), previous),
                wire.conversation_item_done(item.to_wire(), previous),
            ]
        )
        return Committed(item.id, self._told, seconds)

    def settle(self, turn: Committed, text: str) -> None:
        """All words of a committed turn are known; none at all: it was not understood."""
        self._conversation.set_transcript(turn.item_id, text)
        if not self._settings.transcription:
            return
        if not text:
            self._send([wire.transcription_failed(turn.item_id, "no words were recognised")])
            return
        if text[turn.told :]:
            self._send([wire.transcription_delta(turn.item_id, text[turn.told :])])
        self._send([wire.transcription_completed(turn.item_id, text, turn.seconds)])
