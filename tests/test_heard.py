"""The heard ledger: whole words, in order, and everything at the end."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.heard import HeardLedger
from speech.interfaces import Mark

_WORDS = [
    " Well,",
    " the answer",
    " is 42.",
    " 你好，",
    "世界。",
    "\n",
    " - ",
    " e.g.",
    " 3.14 m",
    "😊",
]
_marks = st.lists(st.builds(Mark, st.integers(0, 30), st.integers(0, 30_000)), max_size=4)
clauses = st.lists(
    st.tuples(
        st.lists(st.sampled_from(_WORDS), max_size=6).map("".join), st.integers(0, 30_000), _marks
    ),
    max_size=6,
)


def ledger(spoken: list[tuple[str, int, list[Mark]]]) -> HeardLedger:
    heard = HeardLedger()
    for text, samples, marks in spoken:
        heard.say(text, samples, marks)
    return heard


@given(clauses, st.lists(st.integers(-1, 200_000), max_size=20))
def test_heard_text_is_a_monotone_prefix_of_whole_words(
    spoken: list[tuple[str, int, list[Mark]]], played: list[int]
) -> None:
    heard = ledger(spoken)
    assert heard.full_text == "".join(text for text, _, _ in spoken)
    assert heard.text(heard.samples) == heard.full_text
    texts = [heard.text(samples) for samples in sorted(played)]
    for text in texts:
        assert heard.full_text.startswith(text)
        edge = text[-1:] + heard.full_text[len(text) :][:1]
        assert not re.fullmatch(r"[A-Za-z0-9]{2}", edge), edge
    assert [len(text) for text in texts] == sorted(len(text) for text in texts)


@given(clauses, st.integers(0, 200_000), st.integers(1, 9000))
def test_what_was_heard_does_not_change_as_the_reply_grows(
    spoken: list[tuple[str, int, list[Mark]]], played: int, more: int
) -> None:
    heard = ledger(spoken)
    played = min(played, heard.samples)
    before = heard.text(played)
    heard.say("And more words.", more)
    assert heard.text(played) == before


def test_a_word_is_heard_at_half_of_its_audio_where_marks_are_exact() -> None:
    heard = HeardLedger()
    heard.say("One two, six", 9000, [Mark(3, 2000), Mark(7, 6000)])
    assert [heard.text(n) for n in (999, 1000, 3999, 4000)] == ["", "One", "One", "One two,"]
    assert heard.text(9000) == "One two, six"


@pytest.mark.parametrize(
    ("text", "played", "expected"),
    [
        ("one two", 0, ""),
        ("one two", 300, "one"),
        ("a extraordinarily", 500, "a"),
        ("Stop. Now go.", 420, "Stop."),
        ("I am 1234567 now", 350, "I am"),
        ("你好世界", 400, "你好"),
        ("**", 0, ""),
    ],
)
def test_words_without_marks_take_time_by_their_letters_digits_and_pauses(
    text: str, played: int, expected: str
) -> None:
    heard = HeardLedger()
    heard.say(text, 1000)
    assert heard.text(played) == expected


def test_later_clauses_count_from_the_end_of_the_earlier() -> None:
    heard = HeardLedger()
    heard.say("Hello.", 1000)
    heard.say(" World", 1000, [Mark(6, 800)])
    assert [heard.text(n) for n in (999, 1399, 1400)] == ["Hello.", "Hello.", "Hello. World"]
