"""Words become stable once, in order, and are never taken back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.interfaces import RATE, Transcript
from speech.live import LiveTranscript, quietest

WORDS = st.sampled_from(
    ["so", "So,", "I", "think", "think.", "we", "should", "go", "ice", "我", "们。"]
)
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)


def says(text: str) -> Transcript:
    return Transcript(text)


def test_two_decodes_make_words_stable_but_not_the_last() -> None:
    live = LiveTranscript(0)
    assert live.partial(says("I would like")) == ""
    assert live.partial(says("I would like to")) == "I would like"
    assert live.partial(says("I would like too")) == ""
    assert live.partial(says("I would like to book a")) == ""
    assert live.partial(says("I would like to book a table")) == " to book a"
    assert live.stable == "I would like to book a"
    assert live.text(says("I would like to book a table.")) == "I would like to book a table."


def test_the_last_word_waits_even_when_agreed() -> None:
    live = LiveTranscript(0)
    live.partial(says("stop the"))
    assert live.partial(says("stop the")) == "stop"


def test_case_and_punctuation_do_not_disagree() -> None:
    live = LiveTranscript(0)
    live.partial(says("well. Yes I do"))
    assert live.partial(says("Well, yes, I do think")) == "Well, yes, I do"


def test_a_final_decode_that_disagrees_keeps_what_was_said_before() -> None:
    live = LiveTranscript(0)
    live.partial(says("recognise speech with a"))
    live.partial(says("recognise speech with a machine"))
    assert live.stable == "recognise speech with a"
    assert live.text(says("wreck a nice speech with a machine today")).startswith(live.stable)
    assert live.text(says("recognise beach with a machine")) == "recognise speech with a machine"
    assert live.text(says("speech with a machine")) == "recognise speech with a machine"
    assert live.text(says("")) == "recognise speech with a"


def test_chinese_is_compared_by_character_and_joined_without_spaces() -> None:
    live = LiveTranscript(0)
    live.partial(says("我想订一"))
    assert live.partial(says("我想订一张 票")) == "我想订一"
    assert live.close(says("我想订一张票。"), 5) == "张票。"
    assert live.text(says("明天的")) == "我想订一张票。明天的"
    assert live.text(says("OK 吗")) == "我想订一张票。 OK 吗"


def test_a_lone_dash_goes_with_the_word_before() -> None:
    live = LiveTranscript(0)
    live.partial(says("wait - no - I"))
    assert live.partial(says("wait, no, I mean")) == "wait, no, I"
    assert live.text(says("... wait, no, I mean it")) == "wait, no, I mean it"


def test_segments_close_at_a_pause_after_ten_seconds_or_after_twenty_five() -> None:
    live = LiveTranscript(RATE)
    assert not live.must_close(RATE * 11 - 1, paused=True)
    assert live.must_close(RATE * 11, paused=True)
    assert not live.must_close(RATE * 26 - 1, paused=False)
    assert live.must_close(RATE * 26, paused=False)


def test_a_closed_segment_is_fixed_and_the_next_begins_there() -> None:
    live = LiveTranscript(0)
    live.partial(says("first we"))
    assert live.close(says("First, we walked."), 300) == "First, we walked."
    assert (live.start, live.stable) == (300, "First, we walked.")
    live.partial(says("then we ran home"))
    assert live.partial(says("Then we ran home again")) == " Then we ran home"
    assert live.text(says("Then we ran home again.")) == "First, we walked. Then we ran home again."


def test_stable_words_beyond_a_cut_are_not_taken_twice() -> None:
    live = LiveTranscript(0)
    live.partial(says("and so we went down to the sea and"))
    live.partial(says("and so we went down to the sea and swam"))
    assert live.close(says("And so we went down"), 100) == ""
    live.partial(says("to the sea and swam all"))
    assert live.partial(says("to the sea and swam all day")) == " swam all"
    assert live.stable == "and so we went down to the sea and swam all"


def test_carried_words_never_swallow_others() -> None:
    live = LiveTranscript(0)
    live.partial(says("we went um there"))
    live.partial(says("we went um there"))
    live.close(says("we went"), 100)
    assert live.text(says("so I said no")) == "we went um so I said no"


@given(st.lists(st.tuples(st.sampled_from(["partial", "close"]), TEXTS), max_size=12), TEXTS)
def test_stable_text_only_grows(steps: list[tuple[str, str]], last: str) -> None:
    live = LiveTranscript(0)
    for number, (step, text) in enumerate(steps):
        before = live.stable
        whole = live.text(says(text))
        assert whole.startswith(before)
        if step == "partial":
            added = live.partial(says(text))
        else:
            added = live.close(says(text), number)
            assert live.start == number
            assert live.stable == whole
        assert live.stable == before + added
        assert "  " not in live.stable
    assert live.text(says(last)).startswith(live.stable)


@given(st.lists(WORDS, min_size=1, max_size=20), st.lists(st.integers(1, 20), max_size=8))
def test_a_recogniser_without_errors_is_passed_through(words: list[str], cuts: list[int]) -> None:
    live = LiveTranscript(0)
    truth = LiveTranscript(0).text(says(" ".join(words)))
    for cut in sorted(cuts):
        live.partial(says(" ".join(words[:cut])))
        assert truth.startswith(live.stable)
    assert live.text(says(" ".join(words))) == truth


def test_an_end_without_words_takes_nothing_from_the_confidence_in_those_before_it() -> None:
    live, nothing = LiveTranscript(0), Transcript("", confidence=0.0)
    assert live.confidence(nothing) == 0, "there is nothing before it"
    live.close(Transcript("I was born in Bern.", confidence=0.8), 12 * RATE)
    assert live.confidence(nothing) == 0.8
    live.close(nothing, 24 * RATE)
    assert live.confidence(nothing) == 0.8
    assert live.confidence(Transcript("Or so.", confidence=0.3)) == 0.3


def test_the_cut_falls_in_the_gap_between_words() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 25 * RATE).astype(np.float32)
    audio[5 * RATE : 6 * RATE] = 0
    gap = 24 * RATE
    audio[gap : gap + 800] *= 0.01
    assert gap + 100 <= quietest(audio) <= gap + 700


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 481])
def test_audio_too_short_to_cut_is_kept_whole(samples: int) -> None:
    assert 0 <= quietest(np.ones(samples, np.float32)) <= samples
    assert quietest(np.ones(100, np.float32)) == 100
