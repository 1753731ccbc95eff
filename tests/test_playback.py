"""Paced playback in virtual time: every sample once, never too far ahead, an honest clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.playback import Playback

RATE = 1000
LEAD, CHUNK = 250, 40
START = 1_700_000_000.25  # as large as a real clock gets: rounding must not stall the pacing


def audio(samples: int, start: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return (np.arange(start, start + samples) % 30_000).astype(np.int16)


@dataclass
class Caller:
    """Runs a Playback in virtual time, as a session does, and keeps what it was sent."""

    playback: Playback = field(default_factory=lambda: Playback(RATE, fade=0))
    now: float = START
    got: list[int] = field(default_factory=list)
    heard: int = 0

    def look(self) -> None:
        self.got += self.playback.due(self.now).tolist()
        heard = self.playback.heard(self.now)
        assert self.heard <= heard <= self.playback.sent == len(self.got)
        assert self.playback.sent - heard <= LEAD + CHUNK
        self.heard = heard

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (timer := self.playback.timer()) is not None and timer <= until + 1e-6:
            before = self.playback.sent
            self.now = max(self.now, timer)
            self.look()
            assert self.playback.sent > before, "the timer fired for nothing"
        self.now = until
        assert not self.playback.due(until).size, "something was due before the timer"


_steps = st.lists(
    st.tuples(st.just("add"), st.integers(0, 900))
    | st.tuples(st.sampled_from(["hold", "resume", "late"]), st.just(0))
    | st.tuples(st.just("wait"), st.integers(0, 700)),
    max_size=40,
)


@given(_steps)
def test_every_sample_is_sent_once_in_order_and_never_too_far_ahead(
    steps: list[tuple[str, int]],
) -> None:
    caller = Caller()
    added = 0
    for step, size in steps:
        if step == "add":
            caller.playback.add(audio(size, added))
            added += size
        elif step == "hold":
            caller.playback.hold(caller.now)
        elif step == "resume":
            caller.playback.resume(caller.now)
        elif step == "late":
            caller.now += 0.3137
            caller.look()
        else:
            caller.wait(size / 1000)
    caller.playback.finish()
    caller.playback.resume(caller.now)
    caller.wait(added / RATE + 1)
    assert caller.got == audio(added).tolist()
    assert caller.playback.all_sent
    assert caller.playback.heard(caller.now) == added


def test_the_lead_goes_out_at_once_and_the_rest_in_real_time() -> None:
    caller = Caller()
    caller.playback.add(audio(1000))
    caller.playback.finish()
    caller.look()
    assert LEAD <= caller.playback.sent <= LEAD + CHUNK
    caller.wait(0.5)
    assert caller.playback.heard(caller.now) == 500
    assert 750 <= caller.playback.sent <= 790
    assert caller.playback.drained_at() is None
    caller.wait(0.4)
    assert caller.playback.all_sent
    drained = caller.playback.drained_at()
    assert drained is not None
    assert math.isclose(drained, START + 1.0, abs_tol=1e-3)
    assert caller.playback.timer() is None
    assert caller.playback.underruns == 0


def test_a_hold_lets_the_lead_play_out_and_resumes_at_the_next_sample() -> None:
    caller = Caller()
    caller.playback.add(audio(2000))
    caller.wait(0.4)
    sent = caller.playback.sent
    caller.playback.hold(caller.now)
    assert caller.playback.timer() is None
    caller.wait(2.0)
    assert caller.playback.heard(caller.now) == caller.playback.sent == sent
    caller.playback.resume(caller.now)
    caller.look()
    assert caller.got[sent : sent + 3] == [sent, sent + 1, sent + 2]
    caller.wait(0.1)
    assert caller.playback.heard(caller.now) == sent + 100
    assert caller.playback.underruns == 0


def test_late_audio_is_an_underrun_and_restarts_the_clock() -> None:
    caller = Caller()
    caller.playback.add(audio(400))
    caller.wait(1.0)
    assert caller.playback.heard(caller.now) == 400
    caller.playback.add(audio(400, 400))
    caller.wait(0.1)
    assert caller.playback.heard(caller.now) == 500
    assert caller.playback.underruns == 1


def test_running_dry_after_a_short_hold_is_an_underrun_all_the_same() -> None:
    caller = Caller()
    caller.playback.add(audio(200))
    caller.wait(0.01)
    caller.playback.hold(caller.now)
    caller.playback.resume(caller.now + 0.02)
    caller.wait(1.0)
    caller.playback.add(audio(200))
    caller.wait(0.1)
    assert caller.playback.underruns == 1


@pytest.mark.parametrize(("reported", "taken"), [(100, 100), (290, 280), (-5, 0), (9999, 280)])
def test_a_clients_report_is_trusted_within_what_was_sent(reported: int, taken: int) -> None:
    playback = Playback(RATE)
    playback.add(audio(1000))
    playback.due(START)
    assert playback.sent == 280
    playback.acked(reported, START + 0.2)
    assert playback.heard(START + 0.2) == taken
    assert playback.heard(START + 0.22) == min(taken + 20, 280)


def test_an_empty_reply_is_drained_and_a_finished_one_takes_no_more() -> None:
    playback = Playback(RATE)
    playback.finish()
    assert playback.all_sent
    assert playback.drained_at() is not None
    assert playback.due(START).size == 0
    with pytest.raises(ValueError, match="got 5 samples"):
        playback.add(audio(5))


def test_the_last_samples_go_out_only_when_the_reply_is_finished() -> None:
    caller = Caller()
    caller.playback.add(audio(50))
    caller.look()
    assert caller.playback.sent == 40
    caller.playback.finish()
    caller.look()
    assert caller.playback.sent == 50


def test_fifty_minutes_play_out_completely() -> None:
    playback = Playback(24_000)
    block = np.zeros(24_000, np.int16)
    now, added = START, 0
    while playback.sent < 50 * 60 * 24_000:
        if added - playback.sent < 24_000:
            playback.add(block)
            added += len(block)
        timer = playback.timer()
        assert timer is not None
        now = max(now, timer)
        playback.due(now)
    assert playback.underruns == 0
    assert now - START == pytest.approx(50 * 60, abs=1.0)


def test_a_held_voice_comes_back_without_a_click() -> None:
    playback = Playback(24_000, fade=0.008)
    playback.add(np.full(24_000, 10_000, np.int16))
    assert playback.due(0.0)[0] == 10_000, "a reply begins as it is"
    playback.hold(0.1)
    playback.resume(1.0)
    pcm = playback.due(1.0)
    rising = 192
    assert pcm[0] == 0
    assert (np.diff(pcm[:rising].astype(int)) >= 0).all()
    assert (pcm[rising:] == 10_000).all()
    assert (playback.due(1.3) == 10_000).all()


def test_nothing_after_the_latest_report_was_heard_once_the_client_is_gone() -> None:
    playback = Playback(1000, lead=0.2, chunk=0.05)
    playback.add(np.ones(1000, np.int16))
    playback.due(0.0)
    playback.unseen(0.1)
    assert playback.heard(0.1) == 100, "of a client that reports nothing, the clock is believed"
    playback.acked(60, 0.1)
    playback.due(0.2)
    assert playback.heard(0.2) == 160
    playback.unseen(0.2)
    assert playback.heard(0.2) == 60


def test_what_is_sent_again_is_heard_from_now_on() -> None:
    playback = Playback(1000, lead=0.2, chunk=0.05)
    playback.add(np.ones(1000, np.int16))
    sent = len(playback.due(0.0))
    playback.repeated(150, 5.0)
    assert playback.heard(5.0) == sent - 150
    assert playback.heard(5.1) == sent - 50
