"""How a voice ends, heard in made-up voices: harmonics whose pitch and loudness are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.interfaces import RATE, Audio
from speech.prosody import Prosody, prosody


def voice(pitch: Audio, level: Audio | float = 0.3) -> Audio:
    """Five harmonics with `pitch` in Hz a sample, in syllables of a quarter of a second."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(number * phase) / number for number in range(1, 6))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * np.arange(len(pitch)) / (RATE / 4))
    return (tone * syllables * level).astype(np.float32)


def steady(hertz: float, seconds: float) -> Audio:
    return np.full(int(seconds * RATE), hertz, np.float32)


def test_a_voice_that_falls_at_the_end_drops() -> None:
    level = prosody(voice(steady(180, 2)))
    falling = prosody(voice(np.concatenate([steady(180, 1.75), np.geomspace(180, 127, RATE // 4)])))
    assert abs(level.drop) < 1
    assert 3.5 < falling.drop < 7


def test_the_octave_below_is_not_taken_for_a_fall() -> None:
    # A low voice's double period fits as well as its period.
    assert prosody(voice(steady(230, 2))).drop < 1


def test_what_dies_away_after_the_last_syllable_is_its_coda() -> None:
    clipped = voice(steady(180, 2))
    # Some 22 dB under the loudest: still heard, no syllable of its own.
    breath = np.random.default_rng(1).normal(0, 0.11 * clipped.std(), RATE // 5)
    drawn = np.concatenate([clipped, breath.astype(np.float32)])
    assert prosody(drawn).coda == pytest.approx(prosody(clipped).coda + 0.2, abs=0.05)


@pytest.mark.parametrize("seconds", [0, 0.001, 0.03, 0.08])
def test_audio_too_short_to_tell_is_neutral(seconds: float) -> None:
    assert prosody(voice(steady(180, seconds))) == Prosody()


def test_silence_and_noise_are_neutral() -> None:
    assert prosody(np.zeros(2 * RATE, np.float32)) == Prosody()
    noise = np.random.default_rng(2).normal(0, 0.1, 2 * RATE).astype(np.float32)
    assert prosody(noise) == Prosody()


@given(st.integers(0, 3 * RATE), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_whatever_is_heard_every_value_is_a_number(length: int, level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    audio = random.normal(0, 1, length).cumsum().clip(-level, level).astype(np.float32)
    found = prosody(audio)
    assert np.isfinite(found.drop)
    assert 0 <= found.coda <= 3
