"""A client's line to the server: one call's connection, for a caller who speaks and listens."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from assistant.clients.connection import Connection, ConnectionLost, Event
from speech.interfaces import Pcm

__all__ = ["RATE", "CallError", "Event", "Line", "address"]

RATE = 24_000
"""Hz, on the wire."""
_KEPT = 30 * RATE
"""Samples of the microphone that wait for the line to be opened; older ones are lost."""
_AT_ONCE = RATE
"""Samples in one message of those."""


class CallError(Exception):
    """The call could not be held; the message says what was waited for and what came."""


def address(server: str) -> str:
    """The websocket's URL from what people type: http://HOST:PORT, ws://HOST/v1/realtime, HOST.

    Raises CallError."""
    scheme, host, path, query, _ = urlsplit(server if "//" in server else f"//{server}")
    schemes = {"": "ws", "http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
    if scheme not in schemes or not host:
        raise CallError(f"expected a server as in http://127.0.0.1:8470, got {server!r}")
    path = "/v1/realtime" if path in {"", "/"} else path
    return urlunsplit((schemes[scheme], host, path, query, ""))


class Line:
    """One call. `open` it, read `events` to the end, `close` it. The microphone may speak into it
    before it is open: what it said is the first that the server hears."""

    def __init__(
        self,
        url: str,
        api_key: str = "",
        session: Event | None = None,
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`url` is the websocket's; `session` is sent as the first session.update; `changed` is
        told when the open line goes down (False) and when it is up again (True)."""
        self.said = 0
        """Samples of the microphone in all."""
        self.up = False
        """Whether what is said now goes out now; while the line is down it waits."""
        self._connection = Connection(url, api_key, self._note)
        self._changed = changed
        self._session = {"type": "realtime", **(session or {})}
        self._early: Pcm | None = np.zeros(0, np.int16)
        """What was said before the line was open; None from then on."""

    async def open(self) -> None:
        """Raises CallError."""
        try:
            await self._connection.open()
        except ConnectionLost as error:
            raise CallError(str(error)) from None
        await self._connection.send({"type": "session.update", "session": self._session})
        while self._early is not None and len(self._early):
            piece, self._early = self._early[:_AT_ONCE], self._early[_AT_ONCE:]
            await self._connection.send(_append(piece))
        self._early, self.up = None, True

    async def close(self) -> None:
        """Hang up; for a line that is open."""
        self.up = False
        await self._connection.close()

    async def send(self, event: Event) -> None:
        """Now, or once the line is up again."""
        await self._connection.send(event)

    async def hear(self, pcm: Pcm) -> None:
        """The microphone's next samples, int16 at RATE."""
        self.said += len(pcm)
        if self._early is not None:
            self._early = np.concatenate([self._early, pcm])[-_KEPT:]
        else:
            await self._connection.send(_append(pcm))

    async def events(self) -> AsyncIterator[Event]:
        """Every event of the server, once and in order. Ends in a CallError that says why."""
        while True:
            try:
                event = await self._connection.receive()
            except ConnectionLost as error:
                self.up = False
                raise CallError(str(error)) from None
            yield event

    def _note(self, up: bool) -> None:
        self.up = up
        self._changed(up)


def _append(pcm: Pcm) -> Event:
    audio = base64.b64encode(pcm.astype("<i2").tobytes()).decode()
    return {"type": "input_audio_buffer.append", "audio": audio}
