"""Who speaks, by how loud they are."""

from __future__ import annotations

import numpy as np
import pytest

from speech.interfaces import RATE, Audio
from speech.level import CallerLevel

CALLER = -25.0
TOO_FAR = 12.0


def said(level: float, seconds: float = 2.0, seed: int = 0, floor: float = -65.0) -> Audio:
    """Syllables, four a second and half of the time, whose louder half is of `level` dBFS, in
    noise of `floor` dBFS."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    syllables = (np.arange(count) // (RATE // 8)) % 2
    voice = rng.normal(0, 10 ** (level / 20), count) * syllables
    return (voice + rng.normal(0, 10 ** (floor / 20), count)).astype(np.float32)


def acquainted(level: float = CALLER, turns: int = 5, floor: float = -65.0) -> CallerLevel:
    caller = CallerLevel()
    for seed in range(turns):
        caller.accept(said(level, seed=seed, floor=floor))
    return caller


def margin(caller: CallerLevel, level: float, floor: float = -65.0) -> float:
    below = caller.margin(said(level, seed=99, floor=floor))
    assert below is not None
    return below


def test_nobody_is_too_quiet_before_the_caller_is_known() -> None:
    caller = CallerLevel()
    caller.reject(said(-50))
    assert 6 < caller.margin(said(-50)) < 10, "a level that is presumed rules nobody out"
    assert caller.margin(said(-24)) == 0
    assert caller.level is None
    assert acquainted().margin(np.zeros(100, np.float32)) == 0


def test_a_quiet_caller_who_is_not_understood_gets_through_at_the_third_try() -> None:
    caller, tries = CallerLevel(), 0
    while caller.margin(said(-36)) >= 6:
        caller.reject(said(-36))
        tries += 1
    assert tries == 2


def test_noise_leaves_the_level_that_is_presumed_above_itself() -> None:
    caller = CallerLevel()
    for _ in range(9):
        caller.reject(said(-30))
    assert caller.margin(said(-40)) > 8


def test_level_and_noise_are_what_was_heard() -> None:
    caller = acquainted()
    assert caller.level == pytest.approx(CALLER, abs=1.5)
    assert caller.floor == pytest.approx(-65, abs=1.5)


@pytest.mark.parametrize("below", [-6.0, 0.0, 6.0, 12.0, 15.0, 25.0])
def test_a_stretch_lies_as_far_below_as_it_is_weaker(below: float) -> None:
    assert margin(acquainted(), CALLER - below) == pytest.approx(below, abs=1)


def test_noise_does_not_bring_a_far_voice_closer() -> None:
    noisy = acquainted(floor=-45)
    assert margin(noisy, CALLER - 20, floor=-45) == pytest.approx(20, abs=2.5)


def test_pauses_do_not_lower_the_voice() -> None:
    turn = np.concatenate([said(CALLER), said(-120, 1.0)])
    below = acquainted().margin(turn)
    assert below == pytest.approx(0, abs=2)


@pytest.mark.parametrize("odd", [20.0, -20.0])
def test_one_odd_turn_moves_little(odd: float) -> None:
    caller = acquainted()
    caller.accept(said(CALLER + odd))
    assert abs(margin(caller, CALLER)) < 4


def test_a_caller_who_walked_away_is_heard_again_within_20_s_of_speech() -> None:
    caller = acquainted()
    spoken = 0.0
    while margin(caller, CALLER - 20) >= TOO_FAR:
        caller.reject(said(CALLER - 20))
        spoken += 2
        assert spoken <= 20
    assert spoken >= 10
    for _ in range(6):
        caller.accept(said(CALLER - 20))
    assert margin(caller, CALLER - 20) < 3
    assert margin(caller, CALLER - 34) > TOO_FAR


def test_a_television_gains_nothing_that_the_next_turn_does_not_take_back() -> None:
    caller = acquainted()
    for seed in range(30):
        caller.reject(said(CALLER - 15, seed=seed))
    assert margin(caller, CALLER - 15) == pytest.approx(0, abs=1.5)
    caller.accept(said(CALLER))
    assert margin(caller, CALLER - 15) > TOO_FAR


def test_what_is_rejected_never_raises_the_level_nor_lowers_it_past_itself() -> None:
    caller = acquainted()
    for _ in range(100):
        caller.reject(said(CALLER - 14))
    caller.reject(said(CALLER + 10))
    level = caller.level
    assert level is not None
    assert level == pytest.approx(CALLER - 14, abs=1.5)
