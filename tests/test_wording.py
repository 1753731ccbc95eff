"""What the words of a turn say about its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.wording import SIGNALS, wording


def shown(text: str, asked: str = "") -> set[str]:
    """The names of the signals that are not 0, but for the lengths."""
    return {name for name, value in wording(text, asked).items() if value} - {"long"}


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("I would like to book a table for the", "hanging"),
        ("I would like to book a table and.", "hanging"),
        ("I stayed at home because...", "hanging"),
        ("Please call my.", "hanging"),
        ("I need a taxi to.", "leaning"),
        ("The garden is", "leaning"),
        ("I would like to buy.", "wanting"),
        ("How many spoons of coffee, um,", "hanging"),
        ("Well, you know, uh.", "hanging"),
        ("When I was a little boy.", "opened"),
        ("If it rains tomorrow", "opened"),
        ("I need eggs, flour, sugar.", "listing"),
        ("Could you please?", "helpless"),
        ("What time does the pharmacy?", "helpless"),
        ("Remind me.", "helpless"),
        ("It is at twenty.", "unit"),
        ("我想去北京，因为", "hanging"),
        ("我妈妈和", "hanging"),
        ("然后。", "hanging"),
        ("那个是我的", "hanging"),
        ("我想。", "wanting"),
        ("我，嗯。", "hanging"),
        ("如果明天不下雨", "opened"),
        ("我要鸡蛋、牛奶", "listing"),
    ],
)
def test_a_sentence_that_wants_more_shows_it(text: str, signal: str) -> None:
    assert signal in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "I would like to book a table for four.",
        "Who are you talking to?",
        "What is it for?",
        "Call my sister.",
        "When I was a boy, we lived near the sea.",
        "I need eggs, flour and sugar.",
        "Could you call her?",
        "How much does it cost?",
        "Yes, I can.",
        "Next Tuesday would be fine.",
        "明天会下雨吗？",
        "好的。",
        "是的",
        "如果明天不下雨，我们就去爬山。",
    ],
)
def test_a_finished_sentence_shows_nothing_of_the_kind(text: str) -> None:
    wants = "hanging leaning wanting opened listing helpless unit".split()
    assert shown(text).isdisjoint(wants)


@pytest.mark.parametrize(
    ("text", "mark"),
    [("Is it raining?", "question"), ("下雨吗？", "question"), ("I was", "unmarked"),
     ("I was...", "trailing"), ("I was —", "trailing"), ("Bread,", "trailing"),
     ("面包，", "trailing")],
)  # fmt: skip
def test_the_last_mark_is_told(text: str, mark: str) -> None:
    marks = {"question", "unmarked", "trailing"}
    assert shown(text) & marks == {mark}
    assert not shown("It rains.") & marks


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("Shall I set the alarm for seven?", "closed"),
        ("Good. Would you like tea or coffee?", "closed"),
        ("要我现在打电话吗？", "closed"),
        ("你想喝茶还是咖啡？", "closed"),
        ("Which day would suit you?", "which"),
        ("你叫什么名字？", "which"),
        ("Tell me about your childhood.", "invited"),
        ("Could you tell me more about that?", "invited"),
        ("What was it like when you were young?", "invited"),
        ("讲讲你小时候的事吧。", "invited"),
        ("那时候是什么样的？", "invited"),
        ("What is your phone number?", "numeric"),
        ("你的电话号码是多少？", "numeric"),
    ],
)
def test_the_question_before_is_told(asked: str, kind: str) -> None:
    assert kind in shown("", asked)
    assert not {"closed", "which", "invited", "numeric"} & shown("", "I have set the timer.")


def test_a_few_words_are_an_answer_only_to_a_question() -> None:
    assert "answer" in shown("Tuesday.", "Which day would suit you?")
    assert "answer" not in shown("Tuesday.", "I have set the timer.")
    assert "answer" not in shown("Tuesday would be very good for me.", "Which day would suit you?")


def test_a_number_asked_for_is_half_said_until_it_has_its_digits() -> None:
    asked = "What is your phone number?"
    texts = ("It's 555", "555 017 4298", "I don't know.")
    few, many, none = (wording(text, asked)["half_number"] for text in texts)
    assert few > many == none == 0
    assert wording("一三八", "你的电话号码是多少？")["half_number"] > 0


@pytest.mark.parametrize(
    "text", ["Ruf mich bitte nicht an.", "Ich war in", "Quiero ir a", "とても"]
)
def test_english_lists_are_not_held_against_other_languages(text: str) -> None:
    assert shown(text) <= {"short", "unmarked"}


@given(st.text(), st.text())
def test_any_text_gives_every_signal_within_bounds(text: str, asked: str) -> None:
    found = wording(text, asked)
    assert set(found) == set(SIGNALS)
    assert all(0 <= value <= 1 for value in found.values())


def test_a_very_long_text_is_read_from_its_end() -> None:
    assert "hanging" in shown("We went to the sea and " * 2_000 + "the")
