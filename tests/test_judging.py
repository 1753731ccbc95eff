"""The checks of questions: a right answer counts however it is said, a wrong one does not."""

from __future__ import annotations

import json
import re

import pytest

from llm.interfaces import ToolCall
from llm.moe.judging import Question, load, numbers, right, says, spoken

QUESTIONS = load()
LEAST = {"fact": 60, "arithmetic": 35, "instruction": 30, "memory": 30, "tool": 20, "chinese": 35}


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("It's forty-two (42)!", "it is 42 42"),
        ("One hundred and eighty.", "180"),
        ("four, seven, one, nine", "4 7 1 9"),
        ("at 9:00 PM", "at 9 pm"),
        ("1,250.5 metres", "1250.5 metres"),
        ("in nineteen twelve", "in 1912"),
        ("two and a half", "2.5"),
        ("El gato está negro.", "el gato esta negro"),
        ("She doesn’t.", "she does not"),
        ("一共是四十二块。", "1共是42块"),
        ("一百二十", "120"),
        ("万一", "万一"),
    ],
)
def test_what_is_said_alike_is_spoken_alike(written: str, wanted: str) -> None:
    assert spoken(written) == wanted


def test_a_latin_phrase_is_words_and_a_chinese_one_is_anywhere() -> None:
    assert says(spoken("It is ice-cold."), "cold")
    assert not says(spoken("We scold him."), "cold")
    assert says(spoken("是Paris吗？"), "Paris")
    assert says(spoken("我们星期五见面"), "星期五")
    assert not says(spoken("我们星期四见面"), "星期五")


def test_numbers_come_in_order() -> None:
    assert numbers(spoken("Six times eight is forty-eight, or 48.0")) == [6, 8, 48, 48]


TIMES = Question(("What's twelve times fifteen?",), number=180)
EGGS = Question(("I have two eggs and buy two more.",), number=4)
FREEZES = Question(("At how many degrees does water freeze?",), number=0)
SAME = Question(("What is the average of four, eight and twelve?",), number=8)


@pytest.mark.parametrize(
    ("question", "reply", "correct"),
    [
        (TIMES, "Twelve times fifteen is one hundred and eighty.", True),
        (TIMES, "180.", True),
        (TIMES, "That's 12 times 10, which is 120, plus 60, so 180.", True),
        (TIMES, "It's 180: 12 times 10 is 120, and 12 times 5 is 60.", True),
        (TIMES, "Twelve times fifteen is 170.", False),
        (TIMES, "Between 170 and 180 and 190.", False),
        (TIMES, "That is a hard one.", False),
        (EGGS, "You have four eggs, that's an easy one.", True),
        (EGGS, "You still have two eggs.", False),
        (FREEZES, "At zero degrees Celsius.", True),
        (FREEZES, "At 32 degrees Fahrenheit.", False),
        (SAME, "The average of 4, 8 and 12 is 8.", True),
        (SAME, "The average of 4, 8 and 12 is 12.", False),
    ],
)
def test_a_number(question: Question, reply: str, correct: bool) -> None:
    assert right(question, reply) is correct


LIST = Question(("What do I need?",), require=("milk", "butter"), refuse=("bread",))
ONE_WORD = Question(("One word: is ice cold?",), accept=("yes", "cold"), words=(1, 1))
ASKING = Question(("Ask me something.",), form=r"\?\W*$")


@pytest.mark.parametrize(
    ("question", "reply", "correct"),
    [
        (LIST, "Butter and milk.", True),
        (LIST, "Milk.", False),
        (LIST, "Milk, bread and butter.", False),
        (ONE_WORD, "Cold.", True),
        (ONE_WORD, "It is cold.", False),
        (ONE_WORD, "Warm.", False),
        (ASKING, "What do you like to read? ", True),
        (ASKING, "What do you read? I like novels.", False),
    ],
)
def test_words_and_forms(question: Question, reply: str, correct: bool) -> None:
    assert right(question, reply) is correct


LIGHT = Question(
    ("It's dark in the hall.",),
    call="switch_light",
    arguments={"room": ("hall", "hallway"), "on": True},
)
TIMER = Question(("Ten minutes.",), call="set_timer", arguments={"minutes": 10.0})
TALK = Question(("How are you?",), call="", words=(2, 60))


@pytest.mark.parametrize(
    ("question", "name", "arguments", "correct"),
    [
        (LIGHT, "switch_light", {"room": "the hallway", "on": True}, True),
        (LIGHT, "switch_light", {"room": "Hall", "on": "on"}, True),
        (LIGHT, "switch_light", {"room": "hall", "on": False}, False),
        (LIGHT, "switch_light", {"room": "kitchen", "on": True}, False),
        (LIGHT, "switch_light", {"on": True}, False),
        (LIGHT, "get_weather", {"room": "hall", "on": True}, False),
        (TIMER, "set_timer", {"minutes": 10}, True),
        (TIMER, "set_timer", {"minutes": "ten"}, True),
        (TIMER, "set_timer", {"minutes": 1}, False),
        (TALK, "set_timer", {"minutes": 10}, False),
    ],
)
def test_a_tool_call(
    question: Question,
    name: str,
    arguments: dict[str, object],
    correct: bool,
) -> None:
    assert right(question, "", (ToolCall("1", name, json.dumps(arguments)),)) is correct


def test_no_call_where_one_is_wanted_and_arguments_that_are_no_object() -> None:
    assert not right(TIMER, "I set a timer for ten minutes.")
    assert not right(TIMER, "", (ToolCall("1", "set_timer", "[10]"),))
    assert right(TALK, "I'm fine, thanks.")


def test_the_file_holds_enough_of_each_kind() -> None:
    assert QUESTIONS.questions.keys() == LEAST.keys()
    for kind, least in LEAST.items():
        assert len(QUESTIONS.questions[kind]) >= least, kind


def test_each_question_can_be_answered_wrong() -> None:
    names = {tool.name for tool in QUESTIONS.toolbox()}
    seen = set()
    for asked in QUESTIONS.questions.values():
        for question in asked:
            assert len(question.ask) % 2 == 1, question
            assert not right(question, "Hm."), question
            assert question.call in {None, "", *names}, question
            re.compile(question.form)
            seen.add(question.ask)
    assert len(seen) == sum(map(len, QUESTIONS.questions.values()))


def test_an_answer_in_the_words_of_the_check_is_right() -> None:
    for asked in QUESTIONS.questions.values():
        for question in asked:
            if question.form or question.call or question.words:
                continue
            number = [f"{question.number:g}"] if question.number is not None else []
            reply = ", ".join([*question.accept[:1], *question.require, *number])
            assert right(question, reply), question
