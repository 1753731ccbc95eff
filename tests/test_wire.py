"""Client events in: each bad one has its error. Server events out: each validates strictly."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation import caller_turn
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from tests.strict import valid

LIMIT = 1 << 20


def refused(raw: str | bytes, limit: int = LIMIT) -> WireError:
    with pytest.raises(WireError) as caught:
        wire.decode(raw, limit)
    return caught.value


def read(kind: str, **fields: Any) -> wire.ClientEvent:
    return wire.decode(json.dumps({"type": kind, **fields}), LIMIT)


# --- what clients send ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "session.update", "session": {"a": 1}}, wire.SessionUpdate(session={"a": 1})),
        (
            {"type": "input_audio_buffer.append", "audio": "AAA="},
            wire.InputAudioBufferAppend(audio="AAA="),
        ),
        ({"type": "input_audio_buffer.commit"}, wire.InputAudioBufferCommit()),
        ({"type": "input_audio_buffer.clear"}, wire.InputAudioBufferClear()),
        ({"type": "output_audio_buffer.clear"}, wire.OutputAudioBufferClear()),
        (
            {"type": "conversation.item.create", "item": {}, "previous_item_id": None},
            wire.ConversationItemCreate(item={}),
        ),
        (
            {"type": "conversation.item.retrieve", "item_id": "a"},
            wire.ConversationItemRetrieve(item_id="a"),
        ),
        (
            {"type": "conversation.item.delete", "item_id": "a"},
            wire.ConversationItemDelete(item_id="a"),
        ),
        (
            {
                "type": "conversation.item.truncate",
                "item_id": "a",
                "content_index": 0,
                "audio_end_ms": 99.5,
            },
            wire.ConversationItemTruncate(item_id="a", audio_end_ms=99.5),
        ),
        ({"type": "response.create"}, wire.ResponseCreate()),
        ({"type": "response.create", "response": None}, wire.ResponseCreate(response=None)),
        ({"type": "response.cancel", "response_id": "r"}, wire.ResponseCancel(response_id="r")),
        (
            {"type": "conch.playback", "item_id": "a", "played_ms": 20},
            wire.PlaybackAck(item_id="a", played_ms=20),
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_every_client_event(event: dict[str, Any], expected: wire.ClientEvent) -> None:
    assert wire.decode(json.dumps(event), LIMIT) == expected
    assert wire.decode(json.dumps(event).encode(), LIMIT) == expected


def test_unknown_fields_are_ignored() -> None:
    assert read("response.cancel", event_id="e", shade="blue") == wire.ResponseCancel(event_id="e")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "invalid_json"),
        ("hello", "invalid_json"),
        ('{"type":"response.create"', "invalid_json"),
        ('{"type":"nonsense","x":', "invalid_json"),
        ('{"type":"response.create"} {}', "invalid_json"),
        (b"\xff\xfe\x00", "invalid_json"),
        (b'{"type":"\xff"}', "invalid_json"),
        ('{"type":"session.update","session":' + "[" * 5000, "invalid_json"),
        ("[" * 100_000, "invalid_event"),
        ("null", "invalid_event"),
        ("[]", "invalid_event"),
        ("12", "invalid_event"),
        ("{}", "unknown_event"),
        ('{"type":null}', "unknown_event"),
        ('{"type":["response.create"]}', "unknown_event"),
        ('{"type":"session.created"}', "unknown_event"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_event(raw: str | bytes, code: str) -> None:
    error = refused(raw)
    assert error.code == code
    assert "expected" in error.message


def test_an_unknown_type_is_named_with_its_neighbours_and_the_events_id() -> None:
    error = refused('{"event_id":"e1","type":"response.creat"}')
    assert (error.code, error.param, error.event_id) == ("unknown_event", "type", "e1")
    assert "got 'response.creat'; did you mean response.create" in error.message


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        ("session.update", {}, ""),
        ("session.update", {"session": 5}, "session"),
        ("session.update", {"session": None}, "session"),
        ("input_audio_buffer.append", {}, ""),
        ("input_audio_buffer.append", {"audio": [1]}, "audio"),
        ("conversation.item.create", {"item": "x"}, "item"),
        ("conversation.item.create", {"item": {}, "previous_item_id": 1}, "previous_item_id"),
        ("conversation.item.retrieve", {}, ""),
        ("conversation.item.delete", {"item_id": 3}, "item_id"),
        ("conversation.item.truncate", {"item_id": "a", "audio_end_ms": "1"}, "audio_end_ms"),
        ("conversation.item.truncate", {"item_id": "a", "audio_end_ms": -1}, "audio_end_ms"),
        ("conversation.item.truncate", {"item_id": "a", "content_index": 1}, "content_index"),
        ("response.create", {"response": "now"}, "response"),
        ("response.cancel", {"response_id": 1}, "response_id"),
        ("conch.playback", {"item_id": "a", "played_ms": -1}, "played_ms"),
        ("conch.playback", {"item_id": "a", "played_ms": 1e300}, "played_ms"),
    ],
)
def test_a_wrong_field_is_named_with_the_events_id(
    kind: str, fields: dict[str, Any], param: str
) -> None:
    error = refused(json.dumps({"event_id": "e7", "type": kind, **fields}))
    assert (error.code, error.param, error.event_id) == ("invalid_value", param, "e7")
    assert error.message.startswith(kind)


def test_a_number_out_of_range_does_not_hide_the_events_id() -> None:
    error = refused(
        '{"event_id":"e2","type":"conversation.item.truncate","item_id":"a","audio_end_ms":1e999}'
    )
    assert (error.code, error.param, error.event_id) == ("invalid_value", "audio_end_ms", "e2")


@pytest.mark.parametrize("event_id", [7, "x" * 513])
def test_an_event_id_that_cannot_be_echoed(event_id: object) -> None:
    error = refused(json.dumps({"type": "response.create", "event_id": event_id}))
    assert (error.code, error.param, error.event_id) == ("invalid_value", "event_id", "")


@pytest.mark.parametrize("kind", ["session.update", "conversation.item.create", "response.create"])
def test_settings_and_items_nested_without_end(kind: str) -> None:
    field = {"session.update": "session", "conversation.item.create": "item"}.get(kind, "response")

    def nested(levels: int) -> dict[str, Any]:
        return {"a": [nested(levels - 2)] if levels > 2 else 1}

    assert read(kind, **{field: nested(62)}).event_id is None
    error = refused(json.dumps({"type": kind, "event_id": "e", field: nested(200)}))
    assert (error.code, error.event_id) == ("invalid_value", "e")


def test_a_message_over_the_limit_counts_bytes() -> None:
    raw = json.dumps({"type": "session.update", "session": {"a": "好" * 50}}, ensure_ascii=False)
    size = len(raw.encode())
    assert wire.decode(raw, size)
    error = refused(raw, size - 1)
    assert error.code == "message_too_large"
    assert error.message == f"expected a message of at most {size - 1} bytes, got {size}"
    assert refused(raw.encode(), size - 1).code == "message_too_large"


def test_null_is_as_good_as_nothing() -> None:
    """Typed clients write out every field that they have."""
    raw = {"type": "response.cancel", "event_id": None, "response_id": None}
    assert wire.decode(json.dumps(raw), LIMIT) == wire.ResponseCancel()


def test_audio_may_be_longer_than_other_messages() -> None:
    raw = json.dumps({"audio": "A" * 15_000, "type": "input_audio_buffer.append"})
    assert isinstance(wire.decode(raw, 1000), wire.InputAudioBufferAppend)
    assert refused(raw, 900).message == f"expected a message of at most 14400 bytes, got {len(raw)}"
    assert refused(raw[:-1], 1000).code == "message_too_large"


@pytest.mark.client
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_comes_is_an_event_or_an_error(raw: str | bytes) -> None:
    try:
        wire.decode(raw, 100)
    except WireError as error:
        assert valid(wire.error(error)).error.code == error.code  # noqa: PT017  # both are right


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "item_id", "audio", "session", "event_id", "item"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(wire._TYPES), json_values, st.text(max_size=5))
def test_any_fields_of_any_event_are_taken_or_refused_with_its_id(
    kind: str, fields: Any, event_id: str
) -> None:
    body = fields if isinstance(fields, dict) else {"session": fields, "item": fields}
    raw = json.dumps({**body, "type": kind, "event_id": event_id})
    try:
        event = wire.decode(raw, LIMIT)
    except WireError as error:
        assert error.event_id == event_id  # noqa: PT017  # both are right
    else:
        assert event.event_id == event_id


# --- audio ------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
def test_audio_comes_out_as_it_went_in(data: bytes) -> None:
    assert wire.audio_bytes(base64.b64encode(data).decode(), "audio") == data


@pytest.mark.parametrize("audio", ["AAA", "A A=", "AAAA\n", "AA=A", "é", "-_-_", "="])
def test_bad_base64(audio: str) -> None:
    with pytest.raises(WireError, match="item.audio: expected base64") as caught:
        wire.audio_bytes(audio, "item.audio", "e")
    assert (caught.value.param, caught.value.event_id) == ("item.audio", "e")


# --- what the server sends --------------------------------------------------------------------

ITEM = caller_turn("item_1", "hello").to_wire()


@pytest.mark.client
@pytest.mark.parametrize(
    "event",
    [
        wire.error(WireError("m", code="c", param="p", event_id="e")),
        wire.error(WireError("m", code="c", kind="server_error")),
        wire.speech_started("item_1", 120),
        wire.speech_stopped("item_1", 900),
        wire.input_audio_buffer_committed("item_1", None),
        wire.input_audio_buffer_cleared(),
        wire.conversation_item_added(ITEM, None),
        wire.conversation_item_added(caller_turn("item_2").to_wire(), "item_1"),
        wire.conversation_item_done(ITEM, "item_0"),
        wire.conversation_item_retrieved(ITEM),
        wire.conversation_item_deleted("item_1"),
        wire.conversation_item_truncated("item_1", 0, 1500),
        wire.transcription_delta("item_1", "hel"),
        wire.transcription_completed("item_1", "hello", 1.5),
        wire.transcription_failed("item_1", "nothing was said"),
    ],
    ids=lambda event: event["type"],
)
def test_every_server_event_validates(event: dict[str, Any]) -> None:
    assert valid(event).type == event["type"]


@pytest.mark.client
def test_the_strict_models_refuse_what_is_wrong() -> None:
    # pydantic's own error, which is a ValueError
    with pytest.raises(ValueError, match="audio_start_ms"):
        valid({**wire.speech_started("item_1", 120), "audio_start_ms": "120"})


def test_every_event_has_an_id_of_its_own() -> None:
    event = wire.input_audio_buffer_cleared()
    ids = {json.loads(wire.encode(event))["event_id"] for _ in range(100)}
    assert len(ids) == 100
    assert "event_id" not in event


def test_an_error_echoes_the_events_id_and_stays_readable() -> None:
    error = WireError("got " + "x" * 5_000_000, code="c", event_id="e3")
    event = wire.error(error)
    assert event["error"]["event_id"] == "e3"
    assert event["error"]["param"] is None
    assert len(wire.encode(event)) < 4000
