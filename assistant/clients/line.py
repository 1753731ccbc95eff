"""A client's connection to the server: one call, also across connections that drop.

A server that can resume names a token in `session.created`; when the connection drops without a
farewell the line calls again with it, gets the events that it missed, and sends again what the
server had not heard. Nobody who uses a line sees more of it than a pause.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from speech.interfaces import Pcm

RATE = 24_000
"""Hz, on the wire."""
_KEPT = 30 * RATE
"""Samples of the microphone that are kept for a resumption."""
_AT_ONCE = RATE
"""Samples in one message of what is sent again."""
_WAITING = 64
"""Messages that are held back while the line is down."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0
_PING, _PONG = 5.0, 8.0
"""Seconds between signs of life, and until one that is missed means the line is down. A drop has
to be noticed well within the server's grace."""

Event = dict[str, Any]


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


class Backlog:
    """The end of what the microphone heard; positions are samples since the call began."""

    def __init__(self, kept: int = _KEPT) -> None:
        self.end = 0
        self._kept = kept
        self._parts: deque[tuple[int, Pcm]] = deque()

    def add(self, pcm: Pcm) -> None:
        self._parts.append((self.end, pcm))
        self.end += len(pcm)
        while self._parts[0][0] + len(self._parts[0][1]) <= self.end - self._kept:
            self._parts.popleft()

    def after(self, sample: int) -> Pcm:
        """What came from that sample on, or what is left of it, shape (n,)."""
        parts = [pcm[max(0, sample - at) :] for at, pcm in self._parts if at + len(pcm) > sample]
        return np.concatenate([np.zeros(0, np.int16), *parts])


class Line:
    """One call. `open` it, read `events` to the end, `close` it; the microphone may speak into it
    from the beginning: what comes before the session does is sent with the session's first."""

    def __init__(self, url: str, api_key: str = "", session: Event | None = None) -> None:
        """`url` is the websocket's; `session` is sent as the first session.update."""
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = {"type": "realtime", **(session or {})}
        self.microphone = Backlog()
        self.up = False
        """Whether what is said now goes out now."""
        self._over = ""
        """Why the call has ended, once it has."""
        self._token, self._grace = "", 0.0
        self._seq = 0
        self._waiting: deque[str] = deque(maxlen=_WAITING)
        self._ws: ClientConnection

    async def open(self) -> None:
        """Connect. Raises CallError."""
        try:
            self._ws = await self._connect()
        except (OSError, WebSocketException) as error:
            raise CallError(f"expected a server at {self._url}: {_told(error)}") from None

    async def close(self) -> None:
        """Hang up; for a line that is open."""
        self.up, self._over = False, self._over or "hung up"
        await self._ws.close()

    async def send(self, event: Event) -> None:
        """Now, or once the line is up again. Raises CallError when the call is over."""
        text = json.dumps(event)
        if self._over:
            raise CallError(f"the server closed the call: {self._over}")
        if self.up or not self._token:
            try:
                return await self._ws.send(text)
            except ConnectionClosed as closed:
                self.up = False
                if not self._can_resume(closed):
                    raise CallError(f"the server closed the call: {closed}") from None
        self._waiting.append(text)
        return None

    async def hear(self, pcm: Pcm) -> None:
        """The microphone's next samples, int16 at RATE. Raises CallError when the call is over."""
        self.microphone.add(pcm)
        if self._over:
            raise CallError(f"the server closed the call: {self._over}")
        if self.up:
            try:
                await self._ws.send(_append(pcm))
            except ConnectionClosed as closed:
                self.up = False
                if not self._can_resume(closed):
                    raise CallError(f"the server closed the call: {closed}") from None

    async def events(self) -> AsyncIterator[Event]:
        """Every event of the server, once and in order. Ends in a CallError that says why."""
        while True:
            try:
                event: Event = json.loads(await self._ws.recv())
            except ConnectionClosed as closed:
                self.up = False
                try:
                    await self._call_again(closed)
                except CallError as error:
                    self._over = str(error)
                    raise
                continue
            with suppress(ConnectionClosed):  # the next recv finds out, once this was read
                await self._note(event)
            yield event

    # --- dropping and coming back -----------------------------------------------------------

    async def _note(self, event: Event) -> None:
        match event["type"]:
            case "session.created":
                self._seq = event.get("seq", 0)
                resume = event.get("session", {}).get("conch", {}).get("resume", {})
                self._token, self._grace = resume.get("token", ""), resume.get("grace_s", 0.0)
                update = {"type": "session.update", "session": self._session}
                self._waiting.appendleft(json.dumps(update))
                await self._speak_from(0)
            case "conch.session.resumed":
                # It was made after the events that it is sent before: its number is not the last.
                self._token = event["resume"]["token"]
                await self._speak_from(event["input_audio_ms"] * RATE // 1000)
            case _:
                self._seq = event.get("seq", self._seq)

    async def _speak_from(self, sample: int) -> None:
        """Send what the server has not heard, up to the very latest: then the line is up."""
        while True:
            if self._waiting:
                await self._ws.send(self._waiting.popleft())
                continue
            piece = self.microphone.after(sample)[:_AT_ONCE]
            if not len(piece):
                break
            sample += len(piece)
            await self._ws.send(_append(piece))
        self.up = True

    def _can_resume(self, closed: ConnectionClosed) -> bool:
        """A server that says why it closes has ended the call."""
        return bool(self._token) and closed.rcvd is None

    async def _call_again(self, closed: ConnectionClosed) -> None:
        if self._over or not self._can_resume(closed):
            raise CallError(self._over or str(closed))
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._grace, _FIRST_PAUSE
        while True:
            try:
                self._ws = await self._connect(resume=self._token, after=self._seq)
            except InvalidStatus as error:
                if error.response.status_code < 500:
                    raise CallError(f"the call could not be resumed: {_told(error)}") from None
            except (OSError, WebSocketException):
                pass  # no network yet; until the grace is over there may be one
            else:
                return
            if loop.time() + pause > until:
                raise CallError(f"the connection dropped and was not back in {self._grace:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connect(self, **query: object) -> ClientConnection:
        separator = "&" if "?" in self._url else "?"
        return await connect(
            self._url + separator + urlencode({"ext": "conch.1", **query}),
            additional_headers=self._headers,
            max_size=1 << 20,
            max_queue=None,
            open_timeout=10,
            ping_interval=_PING,
            ping_timeout=_PONG,
        )


def _append(pcm: Pcm) -> str:
    audio = base64.b64encode(pcm.astype("<i2").tobytes()).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


def _told(error: Exception) -> str:
    """What a refused upgrade says in its body, which websockets leaves out; else the error."""
    if isinstance(error, InvalidStatus) and error.response.body:
        try:
            message = json.loads(error.response.body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            return str(error)
        return f"HTTP {error.response.status_code}: {message}"
    return str(error)
