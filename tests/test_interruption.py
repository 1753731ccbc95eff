"""What speech over a reply is, and where a voice falls silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.interruption import (
    Candidate,
    Verdict,
    echoed,
    is_backchannel,
    judge,
    same_words,
    stops,
    tells,
    thinks_aloud,
)
from speech.dip import Dips
from speech.interfaces import FRAME

LONG = Candidate("tell me about the moon instead", final=True, speech=1.6, age=3.0)


@pytest.mark.parametrize(
    "text",
    ["Mm-hmm.", "Yeah, yeah.", "Oh, wow!", "I see, right.", "", "嗯，对。", "なるほど", "Genau."],
)
def test_backchannels(text: str) -> None:
    assert is_backchannel(text)
    assert not stops(text)


@pytest.mark.parametrize(
    "text", ["Yeah, but why?", "I see the moon", "Right now", "对不起，停", "okay stop"]
)
def test_more_than_a_backchannel(text: str) -> None:
    assert not is_backchannel(text)


@pytest.mark.parametrize(
    "text",
    ["Wait.", "No, no.", "Yeah, hold on", "Oh no", "Excuse me,", "等一下", "停！", "Warte mal"],
)
def test_words_that_stop(text: str) -> None:
    assert stops(text)


@pytest.mark.parametrize(
    "text", ["No way!", "Nothing", "Stopping distances are long", "waiting for it"]
)
def test_words_that_only_look_like_it(text: str) -> None:
    assert not stops(text)


def test_thinking_aloud_is_nothing_else() -> None:
    assert thinks_aloud("Hmm, let me see... um.")
    assert not thinks_aloud("Let me see the menu.")
    assert not thinks_aloud("")


def test_telling_is_neither_asking_nor_wishing() -> None:
    assert tells("I was born in Aberdeen.")
    assert tells("No, we never had a dog. But we had a cat.")
    assert tells("我出生在北京。")
    assert not tells("Please repeat after me: we never had a dog.")
    assert not tells("I had a dog. And what was his name")
    assert not tells("You know him?")
    assert not tells("你认识他吗？")
    assert not tells("")


def test_an_echo_has_the_reply_s_words_in_its_order() -> None:
    spoken = "The moon is about 384 thousand kilometres away from the earth."
    assert echoed("moon is about three", spoken) == 0.75
    assert echoed("What about Mars?", spoken) < 0.5
    assert echoed("", spoken) == 0.0


def test_an_echo_that_is_misheard_sounds_like_the_reply() -> None:
    spoken = "Well, I didn't stop. I went on for a while."
    assert echoed("I didn't drop.", spoken, 0.43) == 1.0
    assert echoed("I didn't drop.", spoken, 0.9) < 0.7, "so clear, it was the caller"
    assert echoed("Please don't drop it.", spoken, 0.43) < 0.7
    assert echoed("Hold on.", "We were told on Monday.", 0.43) < 0.7, "too short to tell"


def test_same_words_whatever_the_marks() -> None:
    assert same_words("What time is it?", "what time is it")
    assert not same_words("What time is it?", "what time is this")


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.INTERRUPT),
        ({"below": 14.0}, Verdict.LET_GO),
        ({"below": 14.0, "words": "Stop!"}, Verdict.INTERRUPT),
        ({"below": 9.0}, Verdict.INTERRUPT),
        ({"below": 9.0, "confidence": 0.5}, Verdict.LET_GO),
        ({"below": 9.0, "confidence": 0.5, "words": "Stop!"}, Verdict.INTERRUPT),
        ({"below": 4.0, "confidence": 0.5}, Verdict.INTERRUPT),
        ({"echoed": 0.9}, Verdict.LET_GO),
        ({"confidence": 0.2}, Verdict.LET_GO),
        ({"words": "Yeah."}, Verdict.LET_GO),
        ({"words": "Yeah.", "answers": True}, Verdict.INTERRUPT),
        ({"words": ""}, Verdict.LET_GO),
        ({"words": None, "final": False}, Verdict.OPEN),
        ({"words": "tell", "final": False, "speech": 0.3}, Verdict.OPEN),
        ({"words": "tell", "final": False, "speech": 0.9}, Verdict.INTERRUPT),
        ({"words": "tell me about", "final": False, "speech": 0.4}, Verdict.INTERRUPT),
        ({"words": "tell me about", "final": False, "speech": 0.4, "age": 0.5}, Verdict.OPEN),
        ({"words": "Wait", "final": False, "speech": 0.2, "confidence": 0.34}, Verdict.INTERRUPT),
    ],
)
def test_what_it_is(change: dict[str, object], verdict: Verdict) -> None:
    assert judge(replace(LONG, **change))[0] is verdict  # type: ignore[arg-type]  # by name


BRIEF = Candidate("", final=True, speech=0.5, age=3.0, confidence=0.45)


@pytest.mark.parametrize(
    "words", ["What?", "and y", "Which one?", "Speak up.", "Again", "Wie bitte?", "为什么"]
)
def test_a_brief_question_or_wish_takes_the_floor(words: str) -> None:
    assert judge(replace(BRIEF, words=words))[0] is Verdict.INTERRUPT
    assert judge(replace(BRIEF, words=words, confidence=0.2))[0] is Verdict.LET_GO
    assert judge(replace(BRIEF, words=words, echoed=1.0))[0] is Verdict.LET_GO


@pytest.mark.parametrize(
    "words",
    ["God it", "make sense", "That's noise.", "Of course it.", "I c", "Yeah, it is.", "H M"],
)
def test_an_unclear_backchannel_is_known_by_its_sound(words: str) -> None:
    unclear = replace(BRIEF, words=words, speech=0.8)
    assert judge(unclear)[0] is Verdict.LET_GO
    assert judge(replace(unclear, final=False))[0] is Verdict.OPEN


def test_a_question_is_no_unclear_backchannel() -> None:
    assert judge(replace(BRIEF, words="Is that true?", speech=0.9))[0] is Verdict.INTERRUPT


def test_a_sentence_made_of_one_syllable_is_not_believed_yet() -> None:
    guess = replace(BRIEF, words="That's what it is.", final=False, speech=0.25)
    assert judge(guess)[0] is Verdict.OPEN
    assert judge(replace(guess, speech=0.6))[0] is Verdict.INTERRUPT


@given(st.text(max_size=60), st.booleans(), st.floats(0, 5), st.floats(0, 1))
def test_what_has_ended_is_decided(text: str, over: bool, speech: float, confidence: float) -> None:
    verdict, why = judge(
        replace(LONG, words=text, final=over, speech=speech, confidence=confidence)
    )
    assert why
    assert not over or verdict is not Verdict.OPEN


def test_a_dip_is_noticed_once_and_a_short_one_is_none() -> None:
    loud, quiet = np.full(FRAME, 0.2, np.float32), np.full(FRAME, 1e-3, np.float32)
    dips = Dips()
    found = [dips.push(frame) for frame in (loud, loud, quiet, loud, loud, quiet, quiet, quiet)]
    assert found == [False] * 6 + [True, False]
    assert dips.quiet
    assert dips.audible_to == 5 * FRAME


def test_under_noise_there_is_no_dip() -> None:
    dips = Dips()
    loud, noisy = np.full(FRAME, 0.2, np.float32), np.full(FRAME, 0.03, np.float32)
    assert not any(dips.push(frame) for frame in (loud, loud, noisy, noisy, noisy))
    assert dips.audible_to == 5 * FRAME
