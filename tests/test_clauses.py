"""Clauses: nothing lost, nothing decided by how the text was chopped, nothing cut inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.clauses import MAX_CHARS, MAX_WORDS, ClauseCutter

_PIECES = ["Well", "so", " and", " the", " answer", " is", "\n", " ", ", ", ". ", ".", "...", "?",
           '"', "3.14", "1,000", " Dr. ", "U.S.", "https://a.b/c?d=e,f", "你好", "，", "。", "因为",
           "而", "且", "— ", ":", "**", "- ", "😊", "x" * 70, " " * 25]  # fmt: skip
_ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
texts = st.lists(st.sampled_from(_PIECES) | st.text(_ASSIGNED, max_size=4), max_size=40).map(
    "".join
)


def cut(*pushes: str) -> list[str]:
    cutter = ClauseCutter()
    return [clause for push in pushes for clause in cutter.push(push)] + cutter.flush()


@given(texts, st.data())
def test_clauses_depend_on_the_text_only_and_lose_nothing(text: str, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chopped = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    assert "".join(cut(*chopped)) == text
    assert cut(*chopped) == cut(text) == cut(*text)


@given(texts)
def test_clauses_are_bounded_and_speakable(text: str) -> None:
    clauses = cut(text)
    assert all(len(c) <= MAX_CHARS + 2 for c in clauses)
    assert all(any(map(str.isalnum, c)) or len(c) >= MAX_CHARS for c in clauses[:-1])


def test_text_without_any_mark_is_cut_within_bounds() -> None:
    assert [len(clause) for clause in cut("好" * 100)] == [MAX_WORDS, MAX_WORDS, 20]
    assert [len(clause) for clause in cut("x" * 500)] == [MAX_CHARS, MAX_CHARS, 100]
    assert max(map(len, cut("lorem ipsum dolor " * 100))) <= MAX_CHARS


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Sure, I can help. Ask away.", ["Sure, I can help.", " Ask away."]),
        ("Of course, let us see. Yes.", ["Of course,", " let us see.", " Yes."]),
        ("Yes. It is raining now.", ["Yes. It is raining now."]),
        ("One two three four five six seven eight nine ten.",
         ["One two three four five", " six seven eight nine ten."]),
        ("A black hole is a region where nothing escapes.",
         ["A black hole is a region", " where nothing escapes."]),
        ("It costs about 3.14 dollars.", ["It costs about 3.14 dollars."]),
        ("That makes 1,000 people, or more.", ["That makes 1,000 people,", " or more."]),
        ("We meet at 10:30 today.", ["We meet at 10:30 today."]),
        ("Please ask Dr. Jones, e.g. now.", ["Please ask Dr. Jones,", " e.g. now."]),
        ("In the U.S. it rains. Always.", ["In the U.S. it rains.", " Always."]),
        ("See https://a.b/c?d=e,f first. Good.", ["See https://a.b/c?d=e,f first.", " Good."]),
        ("Let me think... it was red.", ["Let me think...", " it was red."]),
        ('He said "Please stop." Then he left.', ['He said "Please stop."', " Then he left."]),
        ("Do this:\n1. Eat well.\n2. Sleep.\n", ["Do this:", "\n1. Eat well.", "\n2. Sleep.\n"]),
        ("你好，我是海螺。很高兴！", ["你好，", "我是海螺。", "很高兴！"]),
        ("这个问题很难但是我会回答。", ["这个问题很难", "但是我会回答。"]),
        ("He is in the city of Rome.", ["He is in the city", " of Rome."]),
        ("", []),
        ("**", ["**"]),
    ],
)  # fmt: skip
def test_where_a_reply_is_cut(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


def test_a_clause_comes_as_soon_as_the_next_character_shows_that_its_mark_is_one() -> None:
    cutter = ClauseCutter()
    assert cutter.push("The total is 3.") == []
    assert cutter.push("5 euros.") == []
    assert cutter.push(" A") == ["The total is 3.5 euros."]


def test_later_clauses_end_at_a_comma_only_when_they_are_long() -> None:
    short = " Then we go on, and on."
    long = " Then we go on and walk the whole long way up to the old green house, and rest."
    assert cut("First of all. Second thing." + short)[-1] == short
    assert cut("First of all. Second thing." + long)[-1] == " and rest."


def test_a_flushed_cutter_starts_a_new_reply() -> None:
    cutter = ClauseCutter()
    cutter.push("First of all. Second thing. Third thing.")
    cutter.flush()
    assert cutter.push("Of course, then. ") == ["Of course,"]
