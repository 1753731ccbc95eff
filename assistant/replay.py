"""The events of a call that a client may have missed: numbered, in order, bounded. Pure."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from assistant.wire import realtime as wire


class Jammed(Exception):
    """What the client has not been sent yet is more than may be kept for it."""


class Replay:
    """The latest events as JSON, each with its `seq`: 1, 2, ..."""

    def __init__(self, limit: int) -> None:
        """`limit` in characters."""
        self._limit, self._size = limit, 0
        self._texts: deque[str] = deque()
        self.last = 0
        """The number of the newest event."""

    @property
    def first(self) -> int:
        """The number of the oldest that is kept."""
        return self.last - len(self._texts) + 1

    def add(self, event: wire.Event, sent: int) -> None:
        """Number an event and keep it, if need be in the place of the oldest; but those after
        number `sent` were not sent yet. Raises Jammed."""
        self.last += 1
        text = wire.encode({**event, "seq": self.last})
        self._texts.append(text)
        self._size += len(text)
        while self._size > self._limit:
            if self.first > sent:
                raise Jammed(f"over {self._limit} bytes wait for the client")
            self._size -= len(self._texts.popleft())

    def text(self, number: int) -> str:
        return self._texts[number - self.first]

    def keeps(self, after: int) -> bool:
        """Whether all events after that number are still there."""
        return self.first - 1 <= after <= self.last

    def since(self, after: int) -> list[str]:
        """The events after that number."""
        return list(islice(self._texts, after + 1 - self.first, None))


class _Delta(msgspec.Struct):
    """What is read of an event to know the audio in it."""

    type: str
    item_id: str = ""
    delta: str = ""


_DELTA = msgspec.json.Decoder(_Delta)


def audio_in(events: Iterable[str], item_id: str) -> bytes:
    """That item's audio in these events, as it is encoded there."""
    parts = (_DELTA.decode(text) for text in events if '"response.output_audio.delta"' in text)
    return b"".join(base64.b64decode(part.delta) for part in parts if part.item_id == item_id)
