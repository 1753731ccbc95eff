"""Conversation items: checked, ordered, and told to the model as they were heard."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation import (
    INTERRUPTED,
    Conversation,
    Item,
    caller_turn,
    function_call,
    parse_item,
    spoken_reply,
    to_messages,
)
from assistant.window import Window
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from llm.interfaces import Message, ToolCall
from tests.strict import valid

CALL = ToolCall("call_1", "weather", '{"city": "Rome"}')


def text(role: str, words: str, **fields: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": words}]
    return {"type": "message", "role": role, "content": content, **fields}


def said(conversation: Conversation, words: str, item_id: str) -> None:
    """A finished reply."""
    conversation.add(spoken_reply(item_id, speaks=True))
    conversation.set_reply(item_id, words, "completed")


def told(conversation: Conversation, instructions: str = "") -> list[tuple[str, str]]:
    messages = to_messages(instructions, conversation.latest())
    return [(message.role, message.content) for message in messages]


# --- a client's items -------------------------------------------------------------------------


@pytest.mark.client
@pytest.mark.parametrize(
    "given",
    [
        text("system", "Be kind."),
        text("user", "Hello", id="mine"),
        text("assistant", "Hi", status="completed", object="realtime.item"),
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_audio", "transcript": "Hello"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
            ],
        },
        {"type": "function_call", "name": "weather", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ],
    ids=lambda given: f"{given['type']} {given.get('role', '')}",
)
def test_items_are_kept_and_validate(given: dict[str, Any]) -> None:
    item = parse_item(given)
    sent = item.to_wire()
    assert {**sent, **given} == {**sent, "id": item.id}
    assert item.id == given.get("id", item.id)
    assert valid(wire.conversation_item_added(sent, None)).item.id == item.id


def test_what_is_missing_is_filled_in() -> None:
    call = parse_item({"type": "function_call", "name": "f", "arguments": "{}"})
    assert call.wire["call_id"].startswith("call_")
    assert parse_item(text("user", "a")).id != parse_item(text("user", "a")).id
    assert parse_item(text("user", "a", id="")).id.startswith("item_")


def test_the_betas_text_is_output_text() -> None:
    given = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}]}
    assert parse_item(given).wire["content"] == [{"type": "output_text", "text": "a"}]


def message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({}, "item", "missing required field `type`"),
        ({"type": "mcp_call"}, "item.type", "function_call_output, got 'mcp_call'"),
        ({"type": "item_reference", "id": "a"}, "item.type", "got 'item_reference'"),
        ({"type": "message", "role": "user"}, "item", "missing required field `content`"),
        ({"type": "message", "role": "x", "content": []}, "item.role", "assistant, got 'x'"),
        ({"type": "message", "role": "user", "content": "hi"}, "item.content", "got `str`"),
        (message("user", {"type": "input_text"}), "item.content[0].text", "expected a string"),
        (
            message("user", {"type": "input_text", "text": 5}),
            "item.content[0].text",
            "got `int`",
        ),
        (
            message("user", {"type": "input_text", "text": ""}, {"type": "output_text"}),
            "item.content[1].type",
            "input_audio or input_image in a user message, got 'output_text'",
        ),
        (
            message("system", {"type": "input_audio", "transcript": ""}),
            "item.content[0].type",
            "expected input_text in a system message",
        ),
        (
            message("user", {"type": "input_audio", "audio": "?"}),
            "item.content[0].audio",
            "expected base64",
        ),
        (
            message("user", {"type": "input_audio", "audio": None}),
            "item.content[0].transcript",
            "expected a string in input_audio, got none",
        ),
        ({"type": "function_call", "name": "f", "arguments": {}}, "item.arguments", "`object`"),
        ({"type": "function_call_output", "call_id": "c"}, "item", "`output`"),
        (text("user", "a", id="root"), "item.id", "any id but 'root'"),
        (text("user", "a", id="x" * 129), "item.id", "length <= 128"),
    ],
)
def test_a_bad_item_is_named(given: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_item(given, "e1")
    error = caught.value
    assert (error.code, error.param, error.event_id) == ("invalid_value", param, "e1")
    assert words in error.message


def test_no_audio_is_kept() -> None:
    part = {"type": "input_audio", "transcript": "Hello", "audio": "AAAA" * 1000}
    item = parse_item(message("user", part))
    assert item.wire["content"] == [{"type": "input_audio", "transcript": "Hello"}]


# --- order ------------------------------------------------------------------------------------


def ids(conversation: Conversation) -> list[str]:
    return [item.id for item in conversation.latest()]


def test_items_go_to_the_end_the_beginning_or_after_another() -> None:
    conversation = Conversation()
    assert conversation.add(caller_turn("a")) is None
    assert conversation.add(caller_turn("b")) == "a"
    assert conversation.add(caller_turn("c"), "root") is None
    assert conversation.add(caller_turn("d"), "a") == "a"
    assert conversation.add(caller_turn("e"), "") == "b"
    assert ids(conversation) == ["c", "a", "d", "b", "e"]
    assert conversation.last_id == "e"


def test_ids_that_are_taken_or_do_not_exist() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a"))
    for attempt, code, param in (
        (
            lambda: conversation.add(caller_turn("a"), None, "e"),
            "item_create_duplicate_item_id",
            "item.id",
        ),
        (
            lambda: conversation.add(caller_turn("b"), "x", "e"),
            "item_create_invalid_previous_item_id",
            "previous_item_id",
        ),
        (lambda: conversation.delete("x", "e"), "item_delete_invalid_item_id", "item_id"),
        (
            lambda: conversation.get("x" * 9999, "item_retrieve_invalid_item_id", "e"),
            "item_retrieve_invalid_item_id",
            "item_id",
        ),
    ):
        with pytest.raises(WireError) as caught:
            attempt()
        error = caught.value
        assert (error.code, error.param, error.event_id) == (code, param, "e")
        assert len(error.message) < 200
    assert ids(conversation) == ["a"]


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(-1, 9)), max_size=20))
def test_the_order_is_that_of_a_list(steps: list[tuple[int, int | None]]) -> None:
    conversation, expected = Conversation(), list[str]()
    for new, after in steps:
        if str(new) in expected:
            conversation.delete(str(new))
            expected.remove(str(new))
            continue
        place = None if after is None else "root" if after < 0 else str(after)
        if place not in (None, "root", *expected):
            with pytest.raises(WireError):
                conversation.add(caller_turn(str(new)), place)
            continue
        at = len(expected)
        if place is not None:
            at = 0 if place == "root" else expected.index(place) + 1
        previous = conversation.add(caller_turn(str(new)), place)
        assert previous == (expected[at - 1] if at else None)
        expected.insert(at, str(new))
        assert ids(conversation) == expected


# --- what the model is told -------------------------------------------------------------------


@pytest.mark.client
def test_a_turns_words_come_later() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a"))
    assert valid(wire.conversation_item_done(conversation.get("a").to_wire(), None))
    assert told(conversation, "Be kind.") == [("system", "Be kind.")]
    conversation.set_transcript("a", "What is a tide?")
    assert told(conversation) == [("user", "What is a tide?")]
    conversation.delete("a")
    conversation.set_transcript("a", "too late")
    assert told(conversation) == []


@pytest.mark.client
def test_only_what_was_heard_of_a_reply_is_told_and_shown() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a", "What is a tide?"))
    said(conversation, "The moon pulls the sea. Twice a day.", "b")
    assert told(conversation)[1] == ("assistant", "The moon pulls the sea. Twice a day.")
    conversation.set_heard("b", "The moon pulls ")
    assert told(conversation)[1] == ("assistant", "The moon pulls" + INTERRUPTED)
    sent = conversation.get("b").to_wire()
    assert sent["content"] == [{"type": "output_audio", "transcript": "The moon pulls "}]
    assert valid(wire.conversation_item_retrieved(sent))
    conversation.set_heard("b", None)
    assert told(conversation)[1] == ("assistant", "The moon pulls the sea. Twice a day.")


def test_a_reply_of_which_nothing_was_heard_was_not_said() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a", "What is"))
    said(conversation, "A tide", "b")
    conversation.set_heard("b", "")
    conversation.add(caller_turn("c", "a tide?"))
    assert told(conversation) == [("user", "What is\na tide?")]


@pytest.mark.parametrize(
    ("heard", "then", "kept"),
    [
        ("My first", "and he followed me to school", False),
        ("My first", "And he followed me to school.", False),
        ("My first", "Go on.", True),
        ("My first", "what did you say", True),
        ("My first", "stop.", True),
        ("My first dog was", "and he followed me to school", True),
        (None, "and he followed me to school", True),
    ],
)
def test_a_reply_that_the_caller_talked_over_going_on_is_no_answer(
    heard: str | None, then: str, *, kept: bool
) -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a", "I had a dog called Biscuit,"))
    said(conversation, "My first dog was a terrier.", "b")
    conversation.set_heard("b", heard)
    conversation.add(caller_turn("c", then))
    assert len(told(conversation)) == (3 if kept else 1)
    if not kept:
        conversation.delete("c")
        written = [{"type": "input_text", "text": then}]
        conversation.add(parse_item({"type": "message", "role": "user", "content": written}))
        assert len(told(conversation)) == 3, "who writes had read or heard it"


@pytest.mark.parametrize(
    ("words", "reply", "kept"),
    [
        ("I was born in Aberdeen in the winter.", "You were born in Aberdeen, in winter.", False),
        ("I was born in Aberdeen in the winter.", "That must have been cold!", True),
        ("I was born in Aberdeen in the winter.", "In Aberdeen?", True),
        ("Was I born in Aberdeen in the winter?", "You were born in Aberdeen, in winter.", True),
        ("Say I was born in Aberdeen.", "I was born in Aberdeen.", True),
        ("我出生在北京的一个小胡同里。", "你出生在北京的一个小胡同里。", False),
        ("我出生在北京的一个小胡同里。", "胡同里一定很热闹吧！", True),
    ],
)
def test_a_reply_that_only_says_back_what_was_told_is_not_shown_to_the_model(
    words: str, reply: str, *, kept: bool
) -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a", words))
    said(conversation, reply, "b")
    conversation.add(caller_turn("c", "And then?"))
    assert len(told(conversation)) == (3 if kept else 1)


def test_turns_without_an_answer_between_them_are_one_message() -> None:
    conversation = Conversation()
    for item_id, words in (("a", "Hello."), ("b", "Are you there?")):
        conversation.add(caller_turn(item_id, words))
    assert told(conversation) == [("user", "Hello.\nAre you there?")]


def test_a_reply_under_way_has_its_status() -> None:
    item = spoken_reply("a", speaks=True)
    assert item.to_wire()["status"] == "in_progress"
    conversation = Conversation()
    conversation.add(item)
    conversation.set_reply("a", "Hm", "incomplete")
    assert conversation.get("a").to_wire()["status"] == "incomplete"
    conversation.delete("a")
    conversation.set_reply("a", "Hm, yes", "completed")
    conversation.set_heard("a", "Hm")
    assert ids(conversation) == []


def test_a_tool_call_and_its_output() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("a", "Is it warm in Rome?"))
    said(conversation, "Let me look.", "b")
    conversation.add(function_call("c", CALL))
    output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    conversation.add(parse_item(output))
    assert to_messages("", conversation.latest()) == (
        Message("user", "Is it warm in Rome?"),
        Message("assistant", "Let me look.", (CALL,)),
        Message("tool", "sunny", tool_call_id="call_1"),
    )


def test_two_calls_are_one_message_and_two_outputs_stay_two() -> None:
    second = ToolCall("call_2", "weather", "{}")
    outputs = [
        Item(name, {"type": "function_call_output", "call_id": name, "output": name})
        for name in ("call_1", "call_2")
    ]
    items = [function_call("a", CALL), function_call("b", second), *outputs]
    messages = to_messages("", items)
    assert [message.role for message in messages] == ["assistant", "tool", "tool"]
    assert messages[0].tool_calls == (CALL, second)


def test_a_picture_is_said_to_be_one() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    item = parse_item(message("user", {"type": "input_text", "text": "What is this?"}, picture))
    words = to_messages("", [item])[0].content
    assert words.startswith("What is this?\n")
    assert "picture" in words
    assert "base64" not in words


# --- the window -------------------------------------------------------------------------------


def test_the_window_moves_rarely_and_begins_with_the_caller() -> None:
    conversation = Conversation(Window(1000, 1000))
    beginnings: list[str] = []
    for number in range(200):
        conversation.add(caller_turn(f"user_{number}", "word " * 20))
        said(conversation, "word " * 20, f"reply_{number}")
        items = conversation.latest()
        assert sum(item.tokens for item in items) <= 1000
        assert items[0].wire["role"] == "user"
        beginnings.append(items[0].id)
    moves = sum(a != b for a, b in pairwise(beginnings))
    assert 10 < moves < 40, "each move makes the model read everything anew"


def test_one_item_larger_than_the_window_is_still_told() -> None:
    conversation = Conversation(Window(100, 100))
    conversation.add(caller_turn("a", "Hello."))
    conversation.add(caller_turn("b", "word " * 500))
    assert ids(conversation) == ["b"]


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (5000, ["before", "r0", "letter", "asks", "r1", "c2", "r2", "c3", "r3"]),
        (700, ["asks", "r1", "c2", "r2", "c3", "r3"]),
        (100, ["c2", "r2", "c3", "r3"]),
        (60, ["c3", "r3"]),
        (40, ["r3"]),
    ],
)
def test_the_latest_turns_stay_whatever_their_size_unless_the_limit_forbids(
    limit: int, left: list[str]
) -> None:
    conversation = Conversation(Window(200, limit))
    conversation.add(caller_turn("before", "What a day."))
    said(conversation, "Indeed it is.", "r0")
    conversation.add(caller_turn("letter", "word " * 2000))
    conversation.add(caller_turn("asks", "What is in this letter?"))
    said(conversation, "word " * 60, "r1")
    for number in (2, 3):
        conversation.add(caller_turn(f"c{number}", "word " * 10))
        said(conversation, "word " * 10, f"r{number}")
    assert not conversation.is_full
    assert ids(conversation) == left
    if limit == 5000:
        conversation.add(caller_turn("c4", "word " * 10))
        assert conversation.is_full, "the letter can leave"
        conversation.window = conversation.moved("A letter came.")
        assert ids(conversation)[1:] == [*left[3:], "c4"]


def test_a_picture_takes_room_in_the_window_of_a_model_that_sees() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    for room, full in ((0, False), (1000, True)):
        conversation = Conversation(Window(500, 5000, room))
        conversation.add(parse_item(message("user", picture)))
        for number in range(4):
            conversation.add(caller_turn(str(number), "Go on."))
        assert conversation.is_full == full


def test_the_window_survives_the_deletion_of_its_first_item() -> None:
    conversation = Conversation(Window(200, 200))
    for number in range(30):
        conversation.add(caller_turn(str(number), "word " * 20))
    first = ids(conversation)[0]
    conversation.delete(first)
    left = conversation.latest()
    assert left[-1].id == "29"
    assert first not in [item.id for item in left]
    assert sum(item.tokens for item in left) <= 200


def test_the_limit_moves_the_window_at_once_and_a_full_one_may_wait() -> None:
    conversation = Conversation(Window(size=400, limit=800))
    for number in range(28):
        conversation.add(caller_turn(str(number), "word " * 20))
    assert conversation.is_full
    assert len(conversation.latest()) == 4, "over the limit it moves at once, to half of its size"
    assert not conversation.is_full
    moved = conversation.moved("They greet.")
    assert conversation.latest(moved)[0].text == "(Earlier in this call: They greet.)"
    assert sum(item.tokens for item in conversation.latest(moved)[1:]) <= 200


# --- what left the window, and is asked for ---------------------------------------------------

REMINDER = "(Earlier in this call I said: My parrot is called Biscuit.)"


def long_call() -> Conversation:
    """Of what was told first, the window holds nothing any more."""
    conversation = Conversation(Window(200, 200))
    conversation.add(caller_turn("told", "My parrot is called Biscuit. What do you say?"))
    for number in range(12):
        said(conversation, f"Reply {number} about the weather, about nothing else.", f"r{number}")
        conversation.add(caller_turn(f"c{number}", f"It is my turn {number}, and it rains."))
    said(conversation, "So it does.", "last")
    assert "Biscuit" not in str(conversation.latest())
    return conversation


def test_what_the_last_turn_asks_for_is_told_again() -> None:
    conversation = long_call()
    before = conversation.latest()
    asked = conversation.latest(said="What is my parrot called?")
    assert [item.text for item in asked] == [
        *(item.text for item in before),
        REMINDER,
        "What is my parrot called?",
    ]
    conversation.add(caller_turn("now", "What is my parrot called?"))
    assert to_messages("", conversation.latest()) == to_messages("", asked), "the cache stays good"
    conversation.add(function_call("call", CALL))
    assert REMINDER in [item.text for item in conversation.latest()]
    said(conversation, "Biscuit.", "answer")
    assert REMINDER not in [item.text for item in conversation.latest()]


def test_what_is_still_in_the_window_is_not_told_twice() -> None:
    conversation = Conversation()
    conversation.add(caller_turn("told", "My parrot is called Biscuit."))
    said(conversation, "How nice.", "reply")
    assert len(conversation.latest(said="What is my parrot called?")) == 3


def test_what_the_assistant_said_and_what_was_deleted_is_not_recalled() -> None:
    conversation = long_call()
    conversation.delete("told")
    assert "Biscuit" not in str(conversation.latest(said="What is my parrot called?"))
    conversation = Conversation(Window(100, 100))
    said(conversation, "My parrot is called Biscuit.", "reply")
    for number in range(9):
        conversation.add(caller_turn(f"c{number}", f"It is my turn {number}, and it rains."))
    assert "Biscuit" not in str(conversation.latest(said="What is my parrot called?"))
