"""Twilio Media Streams messages, both directions of a bidirectional stream. Pure.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages. Audio is G.711 mu-law
at 8 kHz, mono, base64. Twilio writes its numbers as strings.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Struct

from assistant.wire.errors import WireError

RATE = 8_000
"""Samples, and bytes, in a second of audio."""


class _Message(Struct, tag_field="event", rename="camel"):
    pass


class Connected(_Message, tag="connected"):
    """The first message; it says nothing that is needed."""


class _MediaFormat(Struct, rename="camel"):
    encoding: str
    sample_rate: int
    channels: int


class _Started(Struct, rename="camel"):
    stream_sid: str
    call_sid: str
    media_format: _MediaFormat
    custom_parameters: dict[str, str] = {}
    """The <Parameter> elements of the TwiML."""


class Start(_Message, tag="start"):
    start: _Started


class _Audio(Struct, rename="camel"):
    payload: str
    timestamp: int
    """Milliseconds since the stream began."""
    track: str = "inbound"


class Media(_Message, tag="media"):
    media: _Audio

    @property
    def audio(self) -> bytes:
        """Raises WireError."""
        try:
            return base64.b64decode(self.media.payload, validate=True)
        except (binascii.Error, ValueError) as error:
            message = f"media.payload: expected base64, got {error}"
            raise WireError(message, code="invalid_value", param="media.payload") from None


class _Name(Struct):
    name: str


class Mark(_Message, tag="mark"):
    """All media sent before the mark of that name has been played, or cleared."""

    mark: _Name


class _Digit(Struct):
    digit: str


class Dtmf(_Message, tag="dtmf"):
    dtmf: _Digit


class Stop(_Message, tag="stop"):
    """The stream, or the call, is over."""


Message = Connected | Start | Media | Mark | Dtmf | Stop

_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message, strict=False)
_ENCODER = msgspec.json.Encoder()


def decode(raw: str | bytes) -> Message:
    """Raises WireError for what is not one of these, or has not what is needed of it."""
    try:
        message: Message = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(
            f"expected a Twilio Media Streams message, got one with: {error}", code="invalid_event"
        ) from None
    if isinstance(message, Start):
        form = message.start.media_format
        if (form.encoding, form.sample_rate, form.channels) != ("audio/x-mulaw", RATE, 1):
            raise WireError(f"expected mono audio/x-mulaw at {RATE} Hz, got {form}", code="format")
    return message


def media(stream: str, payload: str) -> str:
    return _encode("media", stream, media={"payload": payload})


def mark(stream: str, name: str) -> str:
    """Comes back when what was sent before it has been played."""
    return _encode("mark", stream, mark={"name": name})


def clear(stream: str) -> str:
    """Forget what was not played yet; the marks in it come back at once."""
    return _encode("clear", stream)


def _encode(event: str, stream: str, **fields: Any) -> str:
    return _ENCODER.encode({"event": event, "streamSid": stream, **fields}).decode()
