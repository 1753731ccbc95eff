"""When a kiosk calls, and when it hangs up: pure, time comes in as an argument.

                 Woken, Pressed              Active
    ASLEEP ----------------------> LISTENING -------> BUSY <----> OPEN
       ^                               |       Active / Quiet       |
       +------- too long silent, Pressed, Lost --------------------+

DOWN is any of the three on the right while the connection is gone: no silence is counted then, and
the caller's next chance to speak begins when it is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The values are what the status command is told."""

    ASLEEP = "asleep"
    LISTENING = "listening"
    """Woken, and nobody has said anything yet."""
    BUSY = "busy"
    """In a call in which somebody has the floor."""
    OPEN = "open"
    """In a call in which nobody has it."""
    DOWN = "reconnecting"


class Heard(Enum):
    """What happens to a kiosk."""

    WOKEN = "the wake word was said"
    PRESSED = "the button"
    ACTIVE = "the caller speaks, or a reply is being made or spoken"
    QUIET = "a reply was played to its end, or there will be none"
    DROPPED = "the connection is gone; it may come back"
    BACK = "it is"
    LOST = "there is no call any more, or none could be begun"


class Act(Enum):
    """What it does."""

    DIAL = "begin a call"
    HANG_UP = "end it"
    CHIME_AWAKE = "awake"
    CHIME_ASLEEP = "asleep"
    CHIME_FAILED = "failed"


_TAKE = (Act.CHIME_AWAKE, Act.DIAL)
_LEAVE = (Act.HANG_UP, Act.CHIME_ASLEEP)
_GIVE_UP = (Act.HANG_UP, Act.CHIME_FAILED)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which a call is left."""

    first_words: float = 10.0
    """Of silence after waking."""
    silence: float = 20.0
    """Of silence after a reply."""
    stuck: float = 90.0
    """Without any event, while somebody should have the floor."""


class Kiosk:
    """Feed it what happens; carry out what it answers; call `fire` at `timer`."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.state = State.ASLEEP
        self._patience = patience or Patience()
        self._deadline: float | None = None

    def receive(self, heard: Heard, now: float) -> tuple[Act, ...]:
        """What to do about it, in this order."""
        acts: tuple[Act, ...] = ()
        match self.state, heard:
            case State.ASLEEP, Heard.WOKEN | Heard.PRESSED:
                enter, acts = State.LISTENING, _TAKE
            case State.ASLEEP, _:
                return ()
            case _, Heard.PRESSED:
                enter, acts = State.ASLEEP, _LEAVE
            case _, Heard.LOST:
                enter, acts = State.ASLEEP, _GIVE_UP
            case _, Heard.DROPPED:
                enter = State.DOWN
            case (State.DOWN, Heard.BACK) | (State.BUSY, Heard.QUIET):
                enter = State.OPEN
            case State.LISTENING | State.BUSY | State.OPEN, Heard.ACTIVE:
                enter = State.BUSY
            case _:
                return ()
        return self._enter(enter, now, acts)

    def timer(self) -> float | None:
        """When `fire` is due; None while nothing is waited for."""
        return self._deadline

    def fire(self, now: float) -> tuple[Act, ...]:
        """The wait was in vain."""
        if self._deadline is None or now < self._deadline:
            return ()
        leave = _GIVE_UP if self.state is State.BUSY else _LEAVE
        return self._enter(State.ASLEEP, now, leave)

    def _enter(self, state: State, now: float, acts: tuple[Act, ...] = ()) -> tuple[Act, ...]:
        """State and deadline change together."""
        wait = {
            State.LISTENING: self._patience.first_words,
            State.BUSY: self._patience.stuck,
            State.OPEN: self._patience.silence,
        }.get(state)
        self.state, self._deadline = state, None if wait is None else now + wait
        return acts
