"""When a kiosk calls and when it hangs up, without a second passing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.clients.kiosk_states import Act, Heard, Kiosk, Patience, State

PATIENCE = Patience(first_words=10, silence=20, stuck=90)
AWAKE = (Act.CHIME_AWAKE, Act.DIAL)
GOODBYE = (Act.HANG_UP, Act.CHIME_ASLEEP)
GIVEN_UP = (Act.HANG_UP, Act.CHIME_FAILED)


def kiosk(*heard: Heard, at: float = 0.0) -> Kiosk:
    machine = Kiosk(PATIENCE)
    for event in heard:
        machine.receive(event, at)
    return machine


def test_a_call_from_the_wake_word_to_the_silence_after_the_reply() -> None:
    machine = Kiosk(PATIENCE)
    assert machine.timer() is None
    assert machine.receive(Heard.WOKEN, 5) == AWAKE
    assert (machine.state, machine.timer()) == (State.LISTENING, 15)
    assert machine.receive(Heard.ACTIVE, 7) == ()
    assert (machine.state, machine.timer()) == (State.BUSY, 97)
    assert machine.receive(Heard.QUIET, 12) == ()
    assert (machine.state, machine.timer()) == (State.OPEN, 32)
    assert machine.fire(31.9) == ()
    assert machine.fire(32) == GOODBYE
    assert (machine.state, machine.timer()) == (State.ASLEEP, None)


def test_nobody_who_speaks_is_left() -> None:
    machine = kiosk(Heard.WOKEN, Heard.ACTIVE, Heard.QUIET, Heard.ACTIVE)
    assert machine.fire(PATIENCE.silence + 1) == ()
    assert machine.state is State.BUSY


def test_woken_by_mistake_it_goes_back_to_sleep() -> None:
    assert kiosk(Heard.WOKEN).fire(10) == GOODBYE


def test_a_call_that_hangs_is_given_up() -> None:
    assert kiosk(Heard.WOKEN, Heard.ACTIVE).fire(90) == GIVEN_UP


@pytest.mark.parametrize("before", [(), (Heard.ACTIVE,), (Heard.ACTIVE, Heard.QUIET)])
def test_the_button_hangs_up_and_a_lost_call_is_told(before: tuple[Heard, ...]) -> None:
    assert kiosk(Heard.PRESSED, *before).receive(Heard.PRESSED, 1) == GOODBYE
    assert kiosk(Heard.PRESSED, *before).receive(Heard.LOST, 1) == GIVEN_UP
    assert kiosk(Heard.PRESSED, *before).receive(Heard.WOKEN, 1) == ()


def test_no_silence_is_counted_while_the_connection_is_gone() -> None:
    machine = kiosk(Heard.WOKEN, Heard.ACTIVE, Heard.QUIET)
    machine.receive(Heard.DROPPED, 3)
    assert (machine.state, machine.timer()) == (State.DOWN, None)
    machine.receive(Heard.BACK, 25)
    assert (machine.state, machine.timer()) == (State.OPEN, 45)


@given(st.lists(st.tuples(st.sampled_from([*Heard, None]), st.floats(0, 40))))
def test_calls_begin_and_end_in_turns_and_sleep_waits_for_nothing(
    script: list[tuple[Heard | None, float]],
) -> None:
    machine, now, calls = Kiosk(PATIENCE), 0.0, 0
    for heard, wait in script:
        now += wait
        acts = machine.receive(heard, now) if heard else machine.fire(now)
        calls += acts.count(Act.DIAL) - acts.count(Act.HANG_UP)
        assert calls == (machine.state is not State.ASLEEP)
        waits = machine.state not in {State.ASLEEP, State.DOWN}
        assert (machine.timer() is not None) == waits
