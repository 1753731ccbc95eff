"""Tool calls that models write as text: found in every spelling, and never in ordinary prose."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.interfaces import Message, Prompt, Tool, ToolCall
from llm.tooltext import ToolTextParser, in_words, made_before

NAMES = frozenset({"get_weather", "add"})
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'


def read(*pieces: str) -> tuple[str, list[tuple[str, object]], ToolTextParser]:
    parser = ToolTextParser(NAMES)
    text = "".join(parser.feed(piece) for piece in pieces)
    rest, calls = parser.finish()
    return text + rest, [(c.name, json.loads(c.arguments)) for c in calls], parser


@pytest.mark.parametrize(
    "written",
    [
        CALL,
        "{" + CALL + "}",
        f">{CALL}\n",
        f"={CALL}\n```",
        f"({CALL})",
        f"```json\n{CALL}\n```",
        f"```\n{CALL}\n```",
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"<tool_call>\n{{{CALL}}}\n</tool_call>",
        '{\n  "name": "get_weather",\n  "parameters": {"city": "Paris"}\n}',
        '{"type": "function", "function": ' + CALL + "}",
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}',
    ],
)
def test_one_call_in_each_spelling(written: str) -> None:
    for pieces in ([written], list(written)):
        assert read(*pieces)[:2] == ("", [("get_weather", {"city": "Paris"})])


def test_text_before_a_call_is_passed_on_and_two_calls_are_two() -> None:
    second = '{"name": "add", "arguments": {}}'
    text, calls, _ = read(*f"Let me look.\n{CALL}\n{second}")
    assert text == "Let me look.\n"
    assert calls == [("get_weather", {"city": "Paris"}), ("add", {})]


@given(st.text(alphabet='ab `{}<"\n:name', max_size=40), st.integers(1, 5))
def test_what_is_not_a_call_comes_out_unchanged(written: str, size: int) -> None:
    pieces = [written[i : i + size] for i in range(0, len(written), size)]
    assert read(*pieces)[:2] == (written, [])


@pytest.mark.parametrize("written", ['{"name": "unknown", "arguments": {}}', "```json\n{broken"])
def test_a_call_of_no_declared_tool_is_text(written: str) -> None:
    text, calls, parser = read(*written)
    assert (text, calls) == (written, [])
    assert parser.invented == ("unknown" in written)


@pytest.mark.parametrize("start", ["Hello", "I", "2", "```python", "<b>", "{x", "(laughs)", "=1"])
def test_prose_is_never_held_back(start: str) -> None:
    assert ToolTextParser(NAMES).feed(start) == start


def test_prose_after_a_call_ends_the_reply() -> None:
    parser = ToolTextParser(NAMES)
    states = []
    for piece in (CALL[:20], CALL[20:], "\n``", "`", "\n", "This", " calls"):
        parser.feed(piece)
        states.append(parser.complete())
    assert states == [False, False, False, False, False, True, True]


def test_a_tool_that_is_only_talked_about_is_named_and_cut_off() -> None:
    said = "To know, you can call the `get_weather` function."
    for pieces in ([said], list(said)):
        text, calls, parser = read(*pieces)
        assert (text, calls) == ("To know, you can call the ", [])
        assert parser.mentioned == "get_weather"
    assert read(*"Use `print` in Python.")[0] == "Use `print` in Python."


def test_a_call_is_made_again_only_when_the_caller_has_spoken_since() -> None:
    first = ToolCall("1", "add", '{"a": 1, "b": 2}')
    asked = (Message("user", "One and two?"), Message("assistant", "", (first,)))
    answered = (*asked, Message("tool", "3", tool_call_id="1"))
    same, other = ToolCall("2", "add", '{"b":2,"a":1}'), ToolCall("3", "add", '{"a": 2}')
    assert made_before([same], Prompt(answered))
    assert not made_before([other], Prompt(answered))
    assert not made_before([same, other], Prompt(answered))
    assert not made_before([same], Prompt((*answered, Message("user", "And again?"))))
    assert not made_before([], Prompt(answered))


def test_what_a_tool_gave_is_told_to_a_model_that_is_to_use_words() -> None:
    call = ToolCall("1", "add", "{}")
    said = Message("user", "One and two?")
    messages = (said, Message("assistant", "", (call,)), Message("tool", "3", tool_call_id="1"))
    assert in_words(Prompt(messages, (Tool("add"),))) == Prompt((said, Message("user", "(3)")))
