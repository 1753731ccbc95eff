"""OpenAI Realtime messages (GA): client events in, server events out. Pure.

Source: the Realtime API reference and the event types of the `openai` package, under which
every server event made here validates.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import reprlib
import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from assistant.wire.errors import WireError

Event = dict[str, Any]


_DEEPEST = 64
"""Levels of objects in what a client sends; far more than any JSON Schema of a tool needs."""
_LONGEST_MESSAGE = 2000
"""Characters of an error's message; it may quote what came, which may be anything."""


class _Client(Struct, kw_only=True, tag_field="type"):
    event_id: Annotated[str, Meta(max_length=512)] = ""


class SessionUpdate(_Client, tag="session.update"):
    session: dict[str, Any]


class InputAudioBufferAppend(_Client, tag="input_audio_buffer.append"):
    audio: str


class InputAudioBufferCommit(_Client, tag="input_audio_buffer.commit"):
    pass


class InputAudioBufferClear(_Client, tag="input_audio_buffer.clear"):
    pass


class OutputAudioBufferClear(_Client, tag="output_audio_buffer.clear"):
    pass


class ConversationItemCreate(_Client, tag="conversation.item.create"):
    item: dict[str, Any]
    previous_item_id: str | None = None


class ConversationItemRetrieve(_Client, tag="conversation.item.retrieve"):
    item_id: str


class ConversationItemDelete(_Client, tag="conversation.item.delete"):
    item_id: str


class ConversationItemTruncate(_Client, tag="conversation.item.truncate"):
    item_id: str
    content_index: Literal[0] = 0
    audio_end_ms: Annotated[float, Meta(ge=0, le=1e9)] = 0


class ResponseCreate(_Client, tag="response.create"):
    response: dict[str, Any] | UnsetType | None = UNSET


class ResponseCancel(_Client, tag="response.cancel"):
    response_id: str | None = None


class PlaybackAck(_Client, tag="conch.playback"):
    """Extension (ext=conch.1): how much of an item's audio the client has played."""

    item_id: str
    played_ms: Annotated[float, Meta(ge=0, le=1e9)]
    content_index: Literal[0] = 0


ClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | OutputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemDelete
    | ConversationItemTruncate
    | ResponseCreate
    | ResponseCancel
    | PlaybackAck
)

_DECODER: msgspec.json.Decoder[ClientEvent] = msgspec.json.Decoder(ClientEvent)
_ENCODER = msgspec.json.Encoder()
_TYPES = [kind.__struct_config__.tag for kind in ClientEvent.__args__]


class _Envelope(Struct):
    """What is read of an event that is wrong otherwise."""

    type: Any = None
    event_id: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def decode(raw: str | bytes, max_bytes: int) -> ClientEvent:
    """One client message. Raises WireError, with the client's event_id where it can be read."""
    if isinstance(raw, str) and not raw.isascii():
        raw = raw.encode(errors="replace")
    size = len(raw)
    if size > max_bytes:
        raise WireError(
            f"expected a message of at most {max_bytes} bytes, got {size}",
            code="message_too_large",
            event_id=_invalid(raw, "").event_id,
        )
    try:
        event = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _invalid(raw, str(error)) from None
    match event:
        case (
            SessionUpdate(session=given)
            | ConversationItemCreate(item=given)
            | ResponseCreate(response=given)
        ):
            check_depth(given, event.event_id)
    return event


def check_depth(given: Any, event_id: str = "") -> None:
    """Raises WireError for more levels than _DEEPEST."""
    if not _shallow(given, _DEEPEST):
        message = f"expected at most {_DEEPEST} levels of objects and arrays, got more"
        raise WireError(message, code="invalid_value", event_id=event_id)


def _shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_shallow(inner, levels - 1) for inner in value)


def _invalid(raw: str | bytes, problem: str) -> WireError:
    try:
        loose = _ENVELOPE.decode(raw)
    except msgspec.ValidationError as error:
        return WireError(f"expected a JSON object with a type: {error}", code="invalid_event")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return WireError(f"expected a JSON object, got {error}", code="invalid_json")
    event_id = loose.event_id if isinstance(loose.event_id, str) else ""
    event_id = event_id if len(event_id) <= 512 else ""
    kind = loose.type
    if kind not in _TYPES:
        near = difflib.get_close_matches(str(kind)[:64], _TYPES, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        message = f"expected a known event type, got {reprlib.repr(kind)}{hint}"
        return WireError(message, code="unknown_event", param="type", event_id=event_id)
    _, _, path = problem.partition(" - at `$.")
    return WireError(
        f"{kind}: {problem}", code="invalid_value", param=path.rstrip("`"), event_id=event_id
    )


def audio_bytes(event: InputAudioBufferAppend, sample_width: int) -> bytes:
    """The audio of an append, whole samples of `sample_width` bytes. Raises WireError."""
    try:
        data = base64.b64decode(event.audio, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"audio: expected base64, got {error}"
        raise WireError(
            message, code="invalid_value", param="audio", event_id=event.event_id
        ) from None
    if len(data) % sample_width:
        raise WireError(
            f"audio: expected whole {8 * sample_width}-bit samples, got {len(data)} bytes",
            code="invalid_value",
            param="audio",
            event_id=event.event_id,
        )
    return data


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"


def encode(event: Event) -> str:
    """The event as JSON with an event_id of its own."""
    return _ENCODER.encode({"event_id": new_id("event"), **event}).decode()


# --- server events; responses have theirs in response.py -------------------------------------


def session_created(session: Event) -> Event:
    return {"type": "session.created", "session": session}


def session_resumed(resume: Event, input_audio_ms: int, input_events: int) -> Event:
    """Extension: the first event of a connection by which a call goes on."""
    return {
        "type": "conch.session.resumed",
        "resume": resume,
        "input_audio_ms": input_audio_ms,
        "input_events": input_events,
    }


def session_updated(session: Event) -> Event:
    return {"type": "session.updated", "session": session}


def error(problem: WireError) -> Event:
    body = {
        "type": problem.kind,
        "code": problem.code,
        "message": problem.message[:_LONGEST_MESSAGE],
        "param": problem.param or None,
        "event_id": problem.event_id or None,
    }
    return {"type": "error", "error": body}


def speech_started(item_id: str, audio_start_ms: int) -> Event:
    return {
        "type": "input_audio_buffer.speech_started",
        "item_id": item_id,
        "audio_start_ms": audio_start_ms,
    }


def speech_stopped(item_id: str, audio_end_ms: int) -> Event:
    return {
        "type": "input_audio_buffer.speech_stopped",
        "item_id": item_id,
        "audio_end_ms": audio_end_ms,
    }


def input_audio_buffer_committed(item_id: str, previous_item_id: str | None) -> Event:
    return {
        "type": "input_audio_buffer.committed",
        "item_id": item_id,
        "previous_item_id": previous_item_id,
    }


def input_audio_buffer_cleared() -> Event:
    return {"type": "input_audio_buffer.cleared"}


def conversation_item_added(item: Event, previous_item_id: str | None) -> Event:
    return {
        "type": "conversation.item.added",
        "item": item,
        "previous_item_id": previous_item_id,
    }


def conversation_item_done(item: Event, previous_item_id: str | None) -> Event:
    return {
        "type": "conversation.item.done",
        "item": item,
        "previous_item_id": previous_item_id,
    }


def conversation_item_retrieved(item: Event) -> Event:
    return {"type": "conversation.item.retrieved", "item": item}


def conversation_item_deleted(item_id: str) -> Event:
    return {"type": "conversation.item.deleted", "item_id": item_id}


def conversation_item_truncated(item_id: str, content_index: int, audio_end_ms: int) -> Event:
    return {
        "type": "conversation.item.truncated",
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def transcription_delta(item_id: str, delta: str) -> Event:
    return {
        "type": f"{_TRANSCRIPTION}.delta",
        "item_id": item_id,
        "content_index": 0,
        "delta": delta,
    }


def transcription_completed(item_id: str, transcript: str, seconds: float) -> Event:
    return {
        "type": f"{_TRANSCRIPTION}.completed",
        "item_id": item_id,
        "content_index": 0,
        "transcript": transcript,
        "usage": {"type": "duration", "seconds": seconds},
    }


def transcription_failed(item_id: str, message: str) -> Event:
    return {
        "type": f"{_TRANSCRIPTION}.failed",
        "item_id": item_id,
        "content_index": 0,
        "error": {
            "type": "transcription_error",
            "code": "transcription_failed",
            "message": message,
        },
    }
