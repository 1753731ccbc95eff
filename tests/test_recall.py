"""What was said long ago is found by the words of the turn that asks for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.recall import recalled, sentences

TOLD = """
Good morning. My name is Ann. I want to tell you about my life. What do you think about that?
I was born in Leeds in the winter of nineteen forty. My father was a baker. My sister plays the
cello. We had a dog. He was called Biscuit. Is that a good name for a dog? I liked the sea. We went
to the sea in the summer. It was cold. My mother did not like it. She was afraid of the boats.
The weather is bad today. It rains. I would like to know what the weather is in Leeds.
我叫安娜。我家的猫叫豆豆。今天天气不好。我喜欢喝茶。
""".replace("\n", " ")

REPLIES = """
Good morning, Ann. What is it that you would like to tell me first? That is a hard time to be born.
What is it that he baked? It is a lovely instrument. What is the best of it? He must have been a
good dog. It is. What was the sea like? I see. Why was she afraid of it? It is good to stay at home
in such weather. It is four degrees. 真好听。今天你想做什么？茶对身体好。
""".replace("\n", " ")


def find(words: str) -> list[str]:
    told = sentences(TOLD)
    return recalled(words, told, told + sentences(REPLIES))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("What is my name?", "My name is Ann."),
        ("Where was I born?", "I was born in Leeds in the winter of nineteen forty."),
        ("What does my sister play?", "My sister plays the cello."),
        ("我的猫叫什么？", "我家的猫叫豆豆。"),
    ],
)
def test_the_sentence_that_answers_is_found(words: str, found: str) -> None:
    assert found in find(words)


def test_two_sentences_that_answer_together_come_in_the_order_of_the_call() -> None:
    found = find("Did my mother like the sea in summer?")
    assert found == ["We went to the sea in the summer.", "My mother did not like it."]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "Yes.",
        "How long should I boil an egg?",
        "What is it?",
        "Is it better to walk in the morning or in the evening?",
        "Thank you very much, that was lovely.",
        "一杯咖啡多少钱？",
    ],
)
def test_other_turns_find_nothing(words: str) -> None:
    assert find(words) == []


@pytest.mark.parametrize("said", ["What is my parrot called?", "Biscuit is called my parrot."])
def test_what_says_no_more_than_the_words_themselves_is_no_answer(said: str) -> None:
    told = sentences(f"{said} Never mind.")
    assert recalled("What is my parrot Biscuit called?", told, told) == []


def test_words_without_marks_are_one_sentence_and_nothing_is_found_in_nothing() -> None:
    assert [each.text for each in sentences("  and then\nwe left ")] == ["and then", "we left"]
    assert recalled("What is my name?", (), ()) == []


@given(st.text(), st.lists(st.text()))
def test_at_most_two_sentences_and_only_some_that_were_told(words: str, said: list[str]) -> None:
    told = [sentence for each in said for sentence in sentences(each)]
    found = recalled(words, told, told)
    assert len(found) <= 2
    assert set(found) <= {sentence.text for sentence in told}
