"""The turn manager's one reply: at most one is under way, and what becomes of it is a command."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from assistant import floor
from assistant.interruption import same_words


class Phase(enum.Enum):
    """How far the reply under way has come."""

    SPECULATIVE = "speculative"
    LIVE = "live"
    DELIVERED = "delivered"
    """The response is done on the wire; its last audio still plays."""


@dataclass(frozen=True, slots=True)
class Reply:
    number: int
    phase: Phase
    since: float = 0.0
    """When it went live."""
    answers: str = ""
    """The words that a speculative reply was started on."""
    ready: bool = False
    """It can be heard as soon as it is published."""
    stopgap: bool = False
    """It is only there until a tool answers."""


class Replies:
    """The reply under way, if any, and the response.create that waits for its turn."""

    def __init__(self) -> None:
        self.current: Reply | None = None
        self.requested: str | None = None
        self._count = 0
        self._calls: dict[str, bool] = {}
        """The tool calls without an answer, and whether the caller was told to wait for it."""

    @property
    def active(self) -> bool:
        """Whether the client sees a response under way."""
        return self.current is not None and self.current.phase is Phase.LIVE

    @property
    def stopgap(self) -> bool:
        """Whether what is under way may end as soon as there is something to say."""
        return self.active and self.current is not None and self.current.stopgap

    def age(self, now: float) -> float:
        """Seconds since the reply went live; 0 without one that the client knows of."""
        reply = self.current
        return now - reply.since if reply and reply.phase is not Phase.SPECULATIVE else 0.0

    def is_current(self, number: int) -> bool:
        return self.current is not None and self.current.number == number

    def answers(self, words: str) -> bool:
        """Whether what is under way answers just these words."""
        return self.current is not None and same_words(self.current.answers, words)

    def start(self, now: float) -> floor.StartReply:
        """A reply that the client sees, for the response.create that waits or for the turn."""
        self._count += 1
        self.current = Reply(self._count, Phase.LIVE, now)
        request, self.requested = self.requested or "", None
        return floor.StartReply(self._count, request=request)

    # --- tools ----------------------------------------------------------------------------

    def call(self, call: str) -> None:
        """The client was asked to run a tool."""
        self._calls[call] = False

    def answered(self, call: str) -> None:
        self._calls.pop(call, None)

    def calls_are_stale(self) -> None:
        """The conversation has gone on: nobody waits for them any more."""
        self._calls.clear()

    @property
    def awaited(self) -> bool:
        """Whether a tool has yet to answer."""
        return bool(self._calls)

    @property
    def wait_is_unexplained(self) -> bool:
        return not all(self._calls.values())

    def explain(self, now: float) -> floor.StartReply:
        """A reply of the assistant's own, while tools take their time: once for each call."""
        self._calls = dict.fromkeys(self._calls, True)
        started = self.start(now)
        if self.current is not None:
            self.current = replace(self.current, stopgap=True)
        return started

    # --- from the first word to the last --------------------------------------------------

    def prepare(self, words: str) -> floor.StartReply:
        """One that nobody sees until it is published."""
        self._count += 1
        self.current = Reply(self._count, Phase.SPECULATIVE, answers=words)
        return floor.StartReply(self._count, speculative=True, said=words)

    def prepared(self) -> None:
        """The reply under way is ready."""
        if self.current is not None:
            self.current = replace(self.current, ready=True)

    def publish(self, now: float) -> list[floor.Command]:
        """What was prepared goes live."""
        if self.current is None:
            return []
        self.current = replace(self.current, phase=Phase.LIVE, since=now)
        return [floor.PublishReply(self.current.number)]

    def deliver(self, number: int) -> bool:
        """All of it is sent; False for any but the live one."""
        if not (self.active and self.is_current(number)) or self.current is None:
            return False
        self.current = replace(self.current, phase=Phase.DELIVERED)
        return True

    def drop(self) -> list[floor.Command]:
        """Forget what was prepared; nobody has seen it."""
        if self.current is None or self.current.phase is not Phase.SPECULATIVE:
            return []
        number, self.current = self.current.number, None
        return [floor.DropReply(number)]

    def stop(self, reason: str, why: str = "") -> list[floor.Command]:
        """Cancel the one that the client knows of."""
        if self.current is None:
            return []
        number, self.current = self.current.number, None
        return [floor.CancelReply(number, reason, why)]
