"""Speech starts and pauses, from probabilities alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.interfaces import FRAME
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted

Event = SpeechStarted | SpeechPaused
YES, MAYBE, NO = 0.9, 0.4, 0.1


def run(segmenter: Segmenter, *frames: float) -> list[Event]:
    return [event for frame in frames if (event := segmenter.push(frame))]


def test_speech_starts_after_enough_of_it_and_reaches_back() -> None:
    segmenter = Segmenter(min_speech_ms=96, prefix_ms=300)
    assert run(segmenter, *[NO] * 20, YES, YES) == []
    assert run(segmenter, YES) == [SpeechStarted(at=20 * FRAME, from_sample=20 * FRAME - 4800)]
    assert segmenter.speaking


def test_the_prefix_does_not_reach_before_the_call() -> None:
    assert run(Segmenter(), YES, YES, YES) == [SpeechStarted(at=0, from_sample=0)]


def test_a_pause_names_the_last_speech_and_when_it_was_noticed() -> None:
    segmenter = Segmenter(pause_ms=200)
    events = run(segmenter, *[YES] * 10, *[NO] * 7)
    assert events[1:] == [SpeechPaused(at=10 * FRAME, now=17 * FRAME)]
    assert not segmenter.speaking


def test_speech_after_a_pause_starts_again() -> None:
    segmenter = Segmenter()
    run(segmenter, *[YES] * 10, *[NO] * 30)
    assert run(segmenter, *[YES] * 3) == [
        SpeechStarted(at=40 * FRAME, from_sample=40 * FRAME - 4800)
    ]


def test_doubt_keeps_speech_alive_and_does_not_begin_it() -> None:
    segmenter = Segmenter()
    assert run(segmenter, *[MAYBE] * 50) == []
    run(segmenter, *[YES] * 3)
    assert run(segmenter, *[MAYBE] * 50) == []
    assert run(segmenter, *[NO] * 7) == [SpeechPaused(at=103 * FRAME, now=110 * FRAME)]


def test_a_click_is_not_speech_and_does_not_move_the_next_onset() -> None:
    segmenter = Segmenter()
    assert run(segmenter, YES, YES, *[NO] * 10) == []
    assert run(segmenter, YES, YES, YES)[0].at == 12 * FRAME


def test_a_short_dip_does_not_restart_the_count() -> None:
    assert run(Segmenter(), YES, NO, YES, NO, YES) == [SpeechStarted(at=0, from_sample=0)]


def test_limits_change_during_a_call() -> None:
    segmenter = Segmenter(pause_ms=200)
    run(segmenter, *[YES] * 5)
    segmenter.configure(pause_ms=96, threshold=0.95)
    assert run(segmenter, *[0.7] * 3) == [SpeechPaused(at=5 * FRAME, now=8 * FRAME)]
    assert segmenter.limits.prefix_ms == 300


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 0.0), ("threshold", 1.5), ("pause_ms", -1)]
)
def test_impossible_limits_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"got {value}"):
        Segmenter().configure(**{name: value})  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), max_size=300))
def test_starts_and_pauses_alternate_in_order(frames: list[float]) -> None:
    segmenter, last = Segmenter(), 0
    for number, event in enumerate(run(segmenter, *frames)):
        assert isinstance(event, SpeechStarted if number % 2 == 0 else SpeechPaused)
        assert last <= event.at <= segmenter.position
        last = event.at
    assert segmenter.position == len(frames) * FRAME


@given(st.lists(st.sampled_from([YES, NO]), max_size=200))
def test_a_pause_is_as_long_as_asked_and_comes_at_once(frames: list[float]) -> None:
    segmenter = Segmenter(pause_ms=160)
    for frame in frames:
        event = segmenter.push(frame)
        if isinstance(event, SpeechPaused):
            assert event.now - event.at == 5 * FRAME
            assert event.now == segmenter.position


def test_the_first_frame_of_what_may_be_speech_is_told() -> None:
    segmenter = Segmenter(min_speech_ms=96)
    suspected = []
    for probability in (0.1, 0.9, 0.9, 0.9, 0.9, 0.1):
        segmenter.push(probability)
        suspected.append(segmenter.suspects)
    assert suspected == [False, True, False, False, False, False]
