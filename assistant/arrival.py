"""When a caller's audio comes, and whether its absence is a silence of the caller's.

A client that sends no more in mid-speech is muted, or its network stalls: nothing tells one from
the other. The client of a call that can be resumed is given the benefit of the doubt for a while,
in which no time passes for the call.
"""

from __future__ import annotations

import asyncio

from assistant.clock import CallClock

_MISSING = 0.5
"""Seconds without audio, while the caller speaks, that count as silence from then on."""
_LATE = 0.25
"""Seconds without audio after which a decision about the caller's turn waits for more."""
_STALL = 2.0
"""Seconds for which a connection that carries nothing may be thought to have stalled."""
_SETTLING = 0.5
"""Seconds in which a client that is back begins to send the audio that it kept."""
_COUNT_RATE = 24_000
"""Hz in which audio of any rate is counted."""


class Arrival:
    """One call's. Seconds are the call's, which stand still while it is not known whether the
    caller is heard."""

    def __init__(self, clock: CallClock, *, patient: bool) -> None:
        """`patient`: missing audio may be on its way."""
        self._clock, self._patient = clock, patient
        self._loop = asyncio.get_running_loop()
        self._last = self._last_at = 0.0  # by the call's clock, by the loop's
        self._samples = 0
        self._goes_on: asyncio.TimerHandle | None = None

    @property
    def milliseconds(self) -> int:
        """Audio that the client has delivered; whole ones, so it may send the rest of one again."""
        return self._samples * 1000 // _COUNT_RATE

    def count(self, samples: int, rate: int) -> None:
        """More was delivered, at `rate` Hz."""
        self._samples += samples * _COUNT_RATE // rate

    def came(self) -> None:
        """What was delivered is heard now."""
        self.close()
        self._clock.go()
        self._last, self._last_at = self._clock.time(), self._loop.time()

    def dropped(self) -> None:
        """Nobody is connected."""
        self.close()
        self._clock.stop()

    def resumed(self) -> None:
        """Somebody is again, and is about to send what was recorded meanwhile."""
        self._last = self._clock.time()
        self._wait(_SETTLING)

    def missing(self) -> bool:
        """Whether a caller in mid-speech is to be taken for silent."""
        return self._clock.time() - self._last >= _MISSING and not self._stalls()

    def late(self) -> bool:
        """Whether it is too early to say what the silence that was heard means."""
        return self._clock.time() - self._last >= _LATE and self._stalls()

    def since(self, when: float) -> float:
        """Seconds of the caller's audio between what was heard last and `when`: the microphone
        goes on whatever the connection does."""
        return when + self._clock.behind - self._last_at

    def close(self) -> None:
        if self._goes_on:
            self._goes_on.cancel()

    def _stalls(self) -> bool:
        """Whether audio may yet come; if so, no time passes until then."""
        left = _STALL - (self._loop.time() - self._last_at)
        if not self._patient or left <= 0:
            return False
        self._wait(left)
        return True

    def _wait(self, seconds: float) -> None:
        self.close()
        self._clock.stop()
        self._goes_on = self._loop.call_later(seconds, self._clock.go)
