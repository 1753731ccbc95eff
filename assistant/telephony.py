"""A telephone call by Twilio Media Streams, as the Realtime events that a session speaks.

What the caller heard of a reply is what the marks prove: one follows each piece of audio and
comes back once that was played. When the caller interrupts, Twilio is told to forget the rest, and
the session that the reply was heard up to the last mark (`conversation.item.truncate`). Marks that
come back because of that prove nothing. They do not pace the reply (`conch.playback`): they are a
round trip late, on a telephone often longer than the lead, and would tear holes into it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from assistant.config import TelephonyConfig
from assistant.http_common import ApiError
from assistant.outbox import Transport
from assistant.wire import twilio
from assistant.wire.errors import WireError

_log = logging.getLogger(__name__)

Event = dict[str, Any]

PATH = "/telephony/twilio"
_SILENCE = b"\xff"
"""A mu-law sample of nothing."""
_PACKET = 20
"""Milliseconds of audio in a message of Twilio's; a gap of one is a packet that was lost."""
_LONGEST_GAP = 2000
"""Milliseconds; of a longer gap no more is filled, for it is no loss but a line on hold."""
_GREETING = 10.0
"""Seconds within which Twilio says what stream this is."""


class Line(Transport, Protocol):
    """A call's connection, as the server keeps it."""

    @property
    def gone(self) -> bool:
        """The client has left."""


def check_signature(config: TelephonyConfig, headers: Mapping[str, str]) -> None:
    """Twilio signs the URL of the stream with the account's auth token. Raises ApiError.

    Source: https://www.twilio.com/docs/usage/security#validating-requests. Twilio's own helper
    takes a URL with and without its default port."""
    url = config.twilio_url or f"wss://{headers.get('host', '')}{PATH}"
    host = urlsplit(url).netloc
    bare = host.removesuffix(":443")
    given = headers.get("x-twilio-signature", "").encode()
    matches = [
        hmac.compare_digest(given, _signature(config, url.replace(host, spelt, 1)))
        for spelt in (host, bare, f"{bare}:443")
    ]
    if not any(matches):
        came = "another one" if given else "none"
        message = f"expected Twilio's signature of {url}, got {came}"
        raise ApiError(403, message, code="invalid_signature")


def _signature(config: TelephonyConfig, url: str) -> bytes:
    digest = hmac.digest(config.twilio_auth_token.encode(), url.encode(), "sha1")
    return base64.b64encode(digest)


async def begun(line: Line) -> twilio.Start | None:
    """How Twilio says that the stream begins; None when it does not. Raises WireError."""
    try:
        async with asyncio.timeout(_GREETING):
            while (raw := await line.receive()) is not None:
                if isinstance(first := twilio.decode(raw), twilio.Start):
                    return first
    except TimeoutError:
        message = f"expected a start within {_GREETING:.0f} s, got none"
        raise WireError(message, code="no_start") from None
    return None


def session_settings(start: twilio.Start) -> Event:
    """What the session of that call begins with: its audio format and the TwiML's parameters."""
    given = start.start.custom_parameters
    form = {"type": "audio/pcmu"}
    hears: Event = {"format": form}
    speaks: Event = {"format": form}
    if language := given.get("language"):
        hears["transcription"] = {"language": language}
    if voice := given.get("voice"):
        speaks["voice"] = voice
    session: Event = {"audio": {"input": hears, "output": speaks}}
    if instructions := given.get("instructions"):
        session["instructions"] = instructions
    return session


@dataclass(frozen=True, slots=True)
class _Piece:
    """Audio that was sent and whose mark has not come back."""

    mark: str
    item_id: str
    end_ms: float
    """Where in the item's audio it ends."""


Told = tuple[list[str], list[Event]]
"""What to send to Twilio, and what to tell the session."""


class Bridge:
    """Twilio's messages to a session's events, and back. Pure."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._due: float | None = None
        """The next packet's timestamp, in milliseconds, when none is missing."""
        self._unplayed: deque[_Piece] = deque()
        self._marks = 0
        self._item, self._sent_ms = "", 0.0
        """The latest item that was sent audio of, and how much."""
        self._proved = ("", 0.0)
        """An item, and how much of its audio was played: what the latest mark proves."""

    def from_phone(self, message: twilio.Message) -> Told:
        """What follows from a message of Twilio's. Raises WireError."""
        match message:
            case twilio.Media() if message.media.track == "inbound":
                audio = self._missing(message) + message.audio
                payload = base64.b64encode(audio).decode()
                return [], [{"type": "input_audio_buffer.append", "audio": payload}]
            case twilio.Mark():
                self._prove(message.mark.name)
            case twilio.Dtmf():
                return self._pressed(message.dtmf.digit)
        return [], []

    def to_phone(self, event: Event) -> Told:
        """What follows from an event of the session's."""
        match event:
            case {"type": "response.output_audio.delta", "item_id": item_id, "delta": payload}:
                return self._audio(item_id, payload), []
            case {"type": "input_audio_buffer.speech_started"} | {
                "type": "response.done",
                "response": {"status": "cancelled"},
            }:
                return self._silence()
            case {"type": "error", "error": {"message": problem}}:
                _log.warning("stream %s: %s", self._stream, problem)
        return [], []

    def _missing(self, message: twilio.Media) -> bytes:
        """Silence in the place of what was lost before this packet."""
        at = message.media.timestamp
        due = at if self._due is None else self._due
        gap = at - due if at - due >= _PACKET else 0.0
        filled = min(gap, _LONGEST_GAP)
        self._due = due + gap + len(message.audio) * 1000 / twilio.RATE
        return _SILENCE * round(filled * twilio.RATE / 1000)

    def _audio(self, item_id: str, payload: str) -> list[str]:
        if item_id != self._item:
            self._item, self._sent_ms = item_id, 0.0
        self._sent_ms += len(base64.b64decode(payload)) * 1000 / twilio.RATE
        self._marks += 1
        piece = _Piece(str(self._marks), item_id, self._sent_ms)
        self._unplayed.append(piece)
        return [twilio.media(self._stream, payload), twilio.mark(self._stream, piece.mark)]

    def _prove(self, mark: str) -> None:
        """`mark` came back; one that is not known any more was cleared."""
        if any(piece.mark == mark for piece in self._unplayed):
            while (piece := self._unplayed.popleft()).mark != mark:
                pass
            self._proved = piece.item_id, piece.end_ms

    def _pressed(self, digit: str) -> Told:
        """A key interrupts like a word, and is answered like a turn."""
        messages, heard = self._silence()
        content = [{"type": "input_text", "text": f"[The caller pressed {digit}.]"}]
        item = {"type": "message", "role": "user", "content": content}
        events = [
            {"type": "output_audio_buffer.clear"},
            *heard,
            {"type": "conversation.item.create", "item": item},
            {"type": "response.create"},
        ]
        return messages, events

    def _silence(self) -> Told:
        """The caller has interrupted: what no mark has proved was not heard."""
        if not self._unplayed:
            return [], []
        items = dict.fromkeys(piece.item_id for piece in self._unplayed)
        self._unplayed.clear()
        proved, ms = self._proved
        heard = [
            {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": 0,
                "audio_end_ms": round(ms) if item_id == proved else 0,
            }
            for item_id in items
        ]
        return [twilio.clear(self._stream)], heard


class TwilioTransport:
    """A stream as the session's Transport."""

    def __init__(self, line: Line, start: twilio.Start) -> None:
        self._line = line
        self._bridge = Bridge(start.start.stream_sid)
        self._waiting: deque[str] = deque()
        """Events for the session. What `send` adds waits for the next packet, 20 ms at most."""

    @property
    def gone(self) -> bool:
        return self._line.gone

    async def receive(self) -> str | None:
        """The next event; None when the call is over."""
        while not self._waiting:
            raw = await self._line.receive()
            if raw is None:
                return None
            try:
                message = twilio.decode(raw)
                if isinstance(message, twilio.Stop):
                    return None
                await self._carry(*self._bridge.from_phone(message))
            except WireError as error:
                _log.warning("a message of Twilio's is passed over: %s", error)
        return self._waiting.popleft()

    async def send(self, text: str) -> None:
        await self._carry(*self._bridge.to_phone(msgspec.json.decode(text)))

    async def close(self, code: int, reason: str) -> None:
        await self._line.close(code, reason)

    async def _carry(self, messages: list[str], events: list[Event]) -> None:
        self._waiting.extend(msgspec.json.encode(event).decode() for event in events)
        for message in messages:
            await self._line.send(message)
