"""Drives the turn manager: events in, commands out, and its deadline on the call's clock."""

from __future__ import annotations

from collections.abc import Callable

from assistant import floor
from assistant.arrival import Arrival
from assistant.clock import Alarm, CallClock
from assistant.record import TurnLog
from assistant.turns import TurnManager


class Driver:
    """Tells the manager what happens and has its commands carried out, in their order."""

    def __init__(
        self,
        turns: TurnManager,
        clock: CallClock,
        arrival: Arrival,
        log: TurnLog,
        carry_out: Callable[[floor.Command], None],
    ) -> None:
        self._turns, self._clock, self._arrival, self._log = turns, clock, arrival, log
        self._carry_out = carry_out
        self._alarm: Alarm | None = None

    def tell(self, event: floor.Event) -> None:
        now = self._clock.time()
        self._obey(self._log.note(now, event, self._turns.receive(event, now)))

    def stop(self) -> None:
        """Ring no more."""
        if self._alarm:
            self._alarm.cancel()

    def _obey(self, commands: list[floor.Command]) -> None:
        for command in commands:
            self._carry_out(command)
        if self._alarm:
            self._alarm.cancel()
        due = self._turns.timer()
        self._alarm = None if due is None else self._clock.call_at(due, self._fire)

    def _fire(self) -> None:
        now = self._clock.time()
        if self._turns.turn is not None and self._arrival.late():
            self._alarm = self._clock.call_at(now, self._fire)
            return
        self._alarm = None
        self._obey(self._log.note(now, None, self._turns.fire(now)))
