"""A clause on its way to the client's format, in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import soxr
from hypothesis import given
from hypothesis import strategies as st

from assistant.config import Config
from assistant.heard import HeardLedger
from assistant.policy import defaults
from assistant.voice import Mouth
from assistant.wire.settings import SessionSettings
from speech.interfaces import Mark, Pcm, Speech
from tests.fakes import FakeEngines, FakeSynthesizer

TEXT = "One two, three four five. Six!"
WORD = 6615
"""Samples that each takes, 0.3 s at 22,050 Hz."""


class Stepping(FakeSynthesizer):
    """Speaks some words a step."""

    words_a_step = 1

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        ends = [match.end() for match in re.finditer(r"\S+", text)]
        for at in range(0, len(ends), self.words_a_step):
            step = ends[at : at + self.words_a_step]
            marks = [Mark(end, WORD * number) for number, end in enumerate(step, 1)]
            yield Speech(tone()[WORD * at : WORD * (at + len(step))], tuple(marks))


def tone() -> Pcm:
    return np.round(9000 * np.sin(np.arange(6 * WORD) / 20)).astype(np.int16)


def spoken(words_a_step: int, rate: int = 24_000) -> list[tuple[str, Speech]]:
    engines = FakeEngines()
    engines.synthesizer = Stepping(engines.code, sample_rate=22_050)
    engines.synthesizer.words_a_step = words_a_step
    settings = SessionSettings(defaults(Config(), "fake"), "sess", {}).response()
    mouth = Mouth(cast("Any", engines), settings)
    mouth.rate = rate

    async def say() -> list[tuple[str, Speech]]:
        return [step async for step in mouth.say(TEXT + " ")]

    engines.cost = 0
    return asyncio.run(say())


@given(st.integers(1, 6), st.sampled_from((24_000, 8_000, 22_050)))
def test_steps_make_the_same_sound_as_one_and_the_same_text(words: int, rate: int) -> None:
    steps = spoken(words, rate)
    assert "".join(text for text, _ in steps) == TEXT + " "
    pcm = np.concatenate([speech.pcm for _, speech in steps])
    at_once = soxr.resample(tone(), 22_050, rate, quality="HQ")
    assert abs(len(pcm) - len(at_once)) <= 1
    shared = min(len(pcm), len(at_once))
    assert np.abs(pcm[:shared].astype(int) - at_once[:shared]).max() < 40


@given(st.integers(1, 6))
def test_words_are_heard_where_they_are_said_whatever_the_steps(words: int) -> None:
    ledger = HeardLedger()
    for text, speech in spoken(words):
        ledger.say(text, len(speech.pcm), speech.marks)
    heard = [ledger.text(int(0.3 * count * 24_000)).split() for count in range(7)]
    assert heard == [TEXT.split()[:count] for count in range(7)]
    assert all(a <= b for a, b in pairwise(map(len, heard)))
