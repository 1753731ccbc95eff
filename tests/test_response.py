"""The events of a response: one order, one terminal event, whatever is said in it."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.wire.response import ResponseStream
from assistant.wire.schema import FORMATS
from assistant.wire.settings import ResponseSettings
from llm.interfaces import Finished, ToolCall
from tests.strict import valid

Event = dict[str, Any]

SPOKEN = ResponseSettings(
    instructions="",
    speaks=True,
    voice="joe",
    speed=1.0,
    output=FORMATS["audio/pcm"],
    tools=(),
    tool_choice="auto",
    temperature=0.6,
    max_tokens=400,
    metadata={"topic": "tides"},
)
WRITTEN = replace(SPOKEN, speaks=False)
CALL = ToolCall("call_1", "weather", '{"city": "Rome"}')


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def spoken(settings: ResponseSettings = SPOKEN) -> list[Event]:
    stream = ResponseStream("resp_1", settings)
    return [
        *stream.created(),
        *stream.start_message("item_2", "item_1"),
        stream.transcript("High "),
        stream.audio(b"\x01\x02"),
        stream.transcript("tide."),
        stream.audio(b"\x03\x04"),
        *stream.finish_message("High tide.", "completed"),
        stream.done("completed", usage=Finished("stop", 20, 15, 4)),
    ]


def test_a_spoken_reply_in_the_order_that_clients_rely_on() -> None:
    assert kinds(spoken()) == [
        "created",
        "output_item.added",
        "conversation.item.added",
        "content_part.added",
        "output_audio_transcript.delta",
        "output_audio.delta",
        "output_audio_transcript.delta",
        "output_audio.delta",
        "output_audio.done",
        "output_audio_transcript.done",
        "content_part.done",
        "conversation.item.done",
        "output_item.done",
        "done",
    ]


def test_a_written_reply() -> None:
    stream = ResponseStream("resp_1", WRITTEN)
    events = [
        *stream.created(),
        *stream.start_message("item_2", None),
        stream.text("High tide."),
        *stream.finish_message("High tide.", "completed"),
        stream.done("completed"),
    ]
    assert kinds(events) == [
        "created",
        "output_item.added",
        "conversation.item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "conversation.item.done",
        "output_item.done",
        "done",
    ]
    assert events[3]["part"] == {"type": "text", "text": ""}
    assert events[5]["text"] == "High tide."
    assert events[-1]["response"]["output_modalities"] == ["text"]
    item = events[-1]["response"]["output"][0]
    assert item["content"] == [{"type": "output_text", "text": "High tide."}]


def test_what_the_events_of_a_spoken_reply_say() -> None:
    events = spoken()
    by_kind = dict(zip(kinds(events), events, strict=True))
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["metadata"] == {"topic": "tides"}
    assert by_kind["content_part.added"]["part"]["type"] == "audio"
    assert base64.b64decode(events[5]["delta"]) == b"\x01\x02"
    assert by_kind["output_audio_transcript.done"]["transcript"] == "High tide."
    item = by_kind["output_item.done"]["item"]
    assert item["content"] == [{"type": "output_audio", "transcript": "High tide."}]
    assert item["status"] == "completed"
    response = by_kind["done"]["response"]
    assert response["output"] == [item]
    assert response["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "joe",
    }
    assert response["usage"] == {
        "total_tokens": 24,
        "input_tokens": 20,
        "output_tokens": 4,
        "input_token_details": {"cached_tokens": 15},
        "output_token_details": {},
    }
    for kind in ("conversation.item.added", "conversation.item.done"):
        assert by_kind[kind]["previous_item_id"] == "item_1"


@pytest.mark.client
def test_a_function_call() -> None:
    stream = ResponseStream("resp_1", SPOKEN)
    stream.created()
    events = stream.function_call("item_3", CALL, "item_2")
    assert kinds(events) == [
        "output_item.added",
        "conversation.item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "conversation.item.done",
        "output_item.done",
    ]
    assert events[0]["item"]["status"] == "in_progress"
    done = events[3]
    assert (done["name"], done["call_id"], done["item_id"]) == ("weather", "call_1", "item_3")
    assert done["arguments"] == CALL.arguments == events[2]["delta"]
    assert events[1]["previous_item_id"] == events[4]["previous_item_id"] == "item_2"
    assert events[5]["item"]["arguments"] == CALL.arguments
    assert [valid(event).type for event in events]


def test_outputs_are_numbered() -> None:
    stream = ResponseStream("resp_1", SPOKEN)
    stream.created()
    first = stream.start_message("item_1", None) + stream.finish_message("Hm.", "completed")
    second = stream.function_call("item_2", CALL, "item_1")
    numbers = [event["output_index"] for event in first + second if "output_index" in event]
    assert numbers == sorted(numbers)
    assert set(numbers) == {0, 1}
    done = stream.done("completed")
    assert [item["id"] for item in done["response"]["output"]] == ["item_1", "item_2"]


def test_out_of_band_nothing_enters_the_conversation() -> None:
    events = spoken(replace(SPOKEN, in_conversation=False))
    assert not [kind for kind in kinds(events) if kind.startswith("conversation.")]
    assert kinds(events)[-2:] == ["output_item.done", "done"]


@pytest.mark.client
@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        ("cancelled", "turn_detected", None),
        ("cancelled", "client_cancelled", None),
        ("incomplete", "max_output_tokens", None),
        ("incomplete", "content_filter", None),
        ("failed", "", {"type": "server_error", "code": "engine_failed", "message": "m"}),
    ],
)
def test_why_it_ended(status: str, reason: str, error: Event | None) -> None:
    stream = ResponseStream("resp_1", SPOKEN)
    stream.created()
    stream.start_message("item_1", None)
    part = stream.finish_message("High", "incomplete")
    assert part[-1]["item"]["status"] == "incomplete"
    event = stream.done(status, reason, error)
    details = valid(event).response.status_details
    assert (details.type, details.reason) == (status, reason or None)
    assert (details.error and details.error.code) == (error and error["code"])


@pytest.mark.client
def test_a_reply_that_says_nothing() -> None:
    stream = ResponseStream("resp_1", SPOKEN)
    stream.created()
    done = stream.done("cancelled", "turn_detected")
    assert valid(done).response.output == []


def test_the_wrong_kind_of_delta_is_a_bug() -> None:
    for settings, wrong in ((WRITTEN, ("transcript", "audio")), (SPOKEN, ("text",))):
        stream = ResponseStream("resp_1", settings)
        stream.created()
        stream.start_message("item_1", None)
        for name in wrong:
            with pytest.raises(RuntimeError, match="the other kind"):
                getattr(stream, name)(b"" if name == "audio" else "")


LEGAL = {
    "new": {"created": "open"},
    "open": {"start": "message", "call": "open", "done": "done"},
    "message": {"say": "message", "finish": "open"},
    "done": {},
}
"""An independent statement of the order: state, call, state after it."""


def perform(stream: ResponseStream, step: str, speaks: bool) -> list[Event]:
    match step:
        case "created":
            return stream.created()
        case "start":
            return stream.start_message("item_1", None)
        case "say" if speaks:
            return [stream.transcript("a"), stream.audio(b"aa")]
        case "say":
            return [stream.text("a")]
        case "finish":
            return stream.finish_message("a", "completed")
        case "call":
            return stream.function_call("item_2", CALL, None)
    return [stream.done("completed")]


steps = st.lists(
    st.sampled_from(["created", "start", "say", "finish", "call", "done"]), max_size=20
)


@pytest.mark.client
@given(steps, st.booleans(), st.booleans())
def test_any_calls_make_one_legal_response(
    calls: list[str], speaks: bool, in_conversation: bool
) -> None:
    settings = replace(SPOKEN, speaks=speaks, in_conversation=in_conversation)
    stream = ResponseStream("resp_1", settings)
    events: list[Event] = []
    state = "new"
    for step in ["created", *calls]:
        if step in LEGAL[state]:
            state = LEGAL[state][step]
            events += perform(stream, step, speaks)
        else:
            with pytest.raises(RuntimeError):
                perform(stream, step, speaks)
    if state == "message":
        events += perform(stream, "finish", speaks)
    if state != "done":
        events += perform(stream, "done", speaks)
    assert kinds(events).count("done") == kinds(events).count("created") == 1
    assert (kinds(events)[0], kinds(events)[-1]) == ("created", "done")
    opened = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    closed = [e["output_index"] for e in events if e["type"] == "response.output_item.done"]
    assert opened == closed == list(range(len(events[-1]["response"]["output"])))
    assert in_conversation or not any("conversation" in kind for kind in kinds(events))
    for event in events:
        assert event["type"] == valid(event).type
