"""The one function that says when a turn is over, with the weights that are shipped."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.endpointing import (
    Model,
    Pause,
    Profile,
    probability,
    profile,
    shipped,
    silence_needed,
)
from scripts.fit_endpointing import READOUT, WEIGHTS, fitted, read
from speech.prosody import Prosody

NORMAL = profile("normal")
LEVEL, FALLEN = Prosody(drop=1.0, coda=0.05), Prosody(drop=6.0, coda=0.25)
"""How a voice sounds in the middle of a sentence, and at its end."""

chances = st.none() | st.floats(0, 1)
seconds = st.floats(0, 120)
shapes = st.none() | st.builds(Prosody, drop=st.floats(-20, 20), coda=st.floats(0, 3))
pauses = st.builds(
    Pause,
    completeness=chances,
    text=st.none() | st.text(),
    speech=seconds,
    prosody=shapes,
    asked=st.text(),
    own_pauses=st.lists(seconds, max_size=20).map(tuple),
)


def finished(text: str, asked: str = "", speech: float = 2.2) -> Pause:
    return Pause(0.98, text, speech, FALLEN, asked)


def unfinished(text: str, asked: str = "", speech: float = 1.6) -> Pause:
    return Pause(0.1, text, speech, LEVEL, asked)


@pytest.mark.parametrize(
    "pause",
    [
        finished("How far is it to the next village?"),
        finished("Please turn the light off in the kitchen."),
        finished("Yes, please.", "Shall I call her now?", speech=0.7),
        finished("Tuesday.", "Which day would suit you?", speech=0.6),
        finished("明天下午会下雨吗？"),
        finished("好的。", "要我现在打电话吗？", speech=0.6),
    ],
)
def test_a_finished_sentence_waits_little(pause: Pause) -> None:
    assert silence_needed(pause, NORMAL) <= 0.6


@pytest.mark.parametrize(
    "pause",
    [
        unfinished("I would like to book a table for the"),
        unfinished("I was thinking, um,"),
        unfinished("We lived near the sea and..."),
        unfinished("It's 555", "What is your phone number?"),
        unfinished("Because."),
        unfinished("我想去北京，因为"),
        unfinished("然后我就"),
        unfinished("我小时候住在", "讲讲你小时候的事吧。"),
    ],
)
def test_an_unfinished_one_is_waited_for(pause: Pause) -> None:
    assert silence_needed(pause, NORMAL) > 1.5


def test_a_story_that_was_asked_for_gets_more_patience_than_a_yes() -> None:
    told = "We lived above a bakery."
    needs = replace(NORMAL, least=0.0)
    story = silence_needed(finished(told, "Tell me about your childhood."), needs)
    assert story > 2 * silence_needed(finished(told, "Did you live in town?"), needs)


def test_words_that_want_more_outweigh_a_sound_that_does_not() -> None:
    whole, hanging = finished("I went to the shop."), finished("I went to the shop and the")
    needs = replace(NORMAL, least=0.0)
    assert silence_needed(hanging, needs) > 3 * silence_needed(whole, needs)


def test_a_slow_caller_is_given_longer() -> None:
    pause = finished("I would like some tea.")
    waits = [
        silence_needed(replace(pause, own_pauses=own), Profile(NORMAL.sure, 0, 60))
        for own in ((0.3,) * 5, (), (1.5,) * 5)
    ]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


@given(pauses, st.floats(0, 1), st.floats(0, 1))
def test_the_more_complete_the_shorter_the_silence(pause: Pause, one: float, two: float) -> None:
    low, high = sorted((one, two))
    for name in shipped().profiles:
        needs = profile(name)
        more = silence_needed(replace(pause, completeness=high), needs)
        assert more <= silence_needed(replace(pause, completeness=low), needs)


@given(pauses)
def test_quick_waits_no_longer_than_normal_and_normal_no_longer_than_patient(pause: Pause) -> None:
    waits = [silence_needed(pause, profile(name)) for name in ("quick", "normal", "patient")]
    assert waits == sorted(waits)
    for name, wait in zip(("quick", "normal", "patient"), waits, strict=True):
        assert profile(name).least <= wait <= profile(name).most


@given(pauses, st.lists(seconds, min_size=2, max_size=5).map(sorted))
def test_the_longer_the_silence_the_surer_the_end(pause: Pause, silences: list[float]) -> None:
    chances = [probability(pause, silence) for silence in silences]
    assert all(0 < chance < 1 for chance in chances)
    assert all(one <= two for one, two in itertools.pairwise(chances))


@given(pauses)
def test_a_second_is_enough_where_a_second_makes_it_sure(pause: Pause) -> None:
    needs = Profile(probability(pause, 1.0), 0.0, 60.0)
    assert silence_needed(pause, needs) == pytest.approx(1.0)
    surer = replace(needs, sure=(1 + needs.sure) / 2)
    assert silence_needed(pause, surer) > 1.0


@pytest.mark.parametrize("known", ["completeness", "text", "prosody", "nothing"])
def test_whatever_is_not_known_yet_it_answers(known: str) -> None:
    """Each signal alone puts what is finished before what is not; none puts them level."""
    nothing = Pause(None, None, 2.0, None)
    both = []
    for pause in (finished("Where is my coat?"), unfinished("Where is my")):
        given = {} if known == "nothing" else {known: getattr(pause, known)}
        both.append(silence_needed(replace(nothing, **given), Profile(NORMAL.sure, 0, 1e9)))
    assert both[0] < both[1] if known != "nothing" else both[0] == both[1]


@pytest.mark.parametrize("text", ["", " ", "?", "。", "🙂", "嗯", "hm", "a", "mot " * 10_000])
def test_odd_texts_are_answered(text: str) -> None:
    for name, needs in shipped().profiles.items():
        wait = silence_needed(Pause(0.5, text, 1.0, None), needs)
        assert needs.least <= wait <= needs.most, name


def test_the_shipped_weights_are_what_the_script_makes_of_the_shipped_table() -> None:
    """But for the last digit, which is the processor's and not the table's."""
    data = read()
    np.testing.assert_allclose(json.loads(READOUT.read_text()), data.readout, atol=2e-4)
    held, made = msgspec.json.decode(WEIGHTS.read_bytes(), type=Model), fitted(data)
    assert held.profiles.keys() == made.profiles.keys() == {"quick", "normal", "patient"}
    assert held.weights.keys() == made.weights.keys()
    names = list(made.weights)
    found, wanted = ([m.silence, *(m.weights[name] for name in names)] for m in (held, made))
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    for name, needs in made.profiles.items():
        assert held.profiles[name].sure == pytest.approx(needs.sure, abs=2e-3)
        assert held.profiles[name].least == needs.least
        assert held.profiles[name].most == needs.most
