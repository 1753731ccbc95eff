"""A call's time: the event loop's, but for what passes while it is stopped.

Deadlines, pauses and what has been heard of a reply are all counted in it, so that an interrupted
connection looks to none of them like a silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Alarm:
    """Something to be done at a time of the call."""

    when: float
    callback: Callable[..., None]
    args: tuple[Any, ...]
    clock: CallClock
    handle: asyncio.TimerHandle | None = field(default=None, init=False)
    """None while the clock stands still."""

    def cancel(self) -> None:
        self.clock.forget(self)


class CallClock:
    """Runs with the event loop's clock, in its seconds, until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._behind = self._rung = 0.0
        self._stopped: float | None = None
        self._alarms: set[Alarm] = set()

    @property
    def behind(self) -> float:
        """Seconds by which it is behind the loop's clock; they grow only while it is stopped."""
        return self._behind if self._stopped is None else self._loop.time() - self._stopped

    def time(self) -> float:
        if self._stopped is not None:
            return self._stopped
        return max(self._loop.time() - self._behind, self._rung)

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> Alarm:
        alarm = Alarm(when, callback, args, self)
        self._alarms.add(alarm)
        if self._stopped is None:
            self._arm(alarm)
        return alarm

    def stop(self) -> None:
        """No time passes, and no alarm rings, until go()."""
        if self._stopped is not None:
            return
        self._stopped = self.time()
        for alarm in self._alarms:
            if alarm.handle:
                alarm.handle.cancel()
                alarm.handle = None

    def go(self) -> None:
        if self._stopped is None:
            return
        self._behind, self._stopped = self.behind, None
        for alarm in self._alarms:
            self._arm(alarm)

    def forget(self, alarm: Alarm) -> None:
        """It rings no more."""
        self._alarms.discard(alarm)
        if alarm.handle:
            alarm.handle.cancel()

    def _arm(self, alarm: Alarm) -> None:
        alarm.handle = self._loop.call_at(alarm.when + self._behind, self._ring, alarm)

    def _ring(self, alarm: Alarm) -> None:
        self._alarms.discard(alarm)
        # Rounding must not make it earlier than the alarm was set for: it would be set again.
        self._rung = max(self._rung, alarm.when)
        alarm.callback(*alarm.args)
