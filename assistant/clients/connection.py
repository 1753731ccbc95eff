"""A call's connection that comes back: what breaks on the way is sent again, on both sides.

The server numbers its events (`seq`) and gives a token with which the call can be gone on with
(docs/protocol.md, "Calls that are resumed"). The client's events are numbered too, by their order:
the server says how many of them it has, and the rest is sent again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

_log = logging.getLogger(__name__)

Event = dict[str, Any]

_KEPT = 2_500_000
"""Characters of the latest events kept, to be sent again: over 30 s of audio at 24 kHz."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
"""Seconds between two attempts to come back; each wait is twice the one before."""
_PING = 5.0
"""Seconds between two pings, and for which a pong may take: a connection that died silently is
noticed well within the time that the server waits."""

_FAREWELL = 1.0
"""Seconds that the server has to say goodbye; one that is out of reach cannot."""


class ConnectionLost(Exception):
    """The call is over; the message says why."""


class Connection:
    """One call's websocket, made anew as often as it breaks. One task receives, any may send."""

    def __init__(
        self, url: str, api_key: str = "", changed: Callable[[bool], None] = lambda _: None
    ) -> None:
        """`url` is the websocket's; `changed` is told when the connection has broken (False) and
        when the call goes on (True)."""
        self._url, self._changed = url, changed
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._ws: ClientConnection
        self._resume: Event | None = None
        self._last = 0
        """The seq of the last event received."""
        self._kept: deque[str] = deque()
        self._size = self._count = self._given = 0
        """Characters kept; events of ours in all; those that the connection was given."""
        self._giving = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin the call. Raises ConnectionLost."""
        try:
            self._ws = await self._connect({})
        except (OSError, WebSocketException) as error:
            raise ConnectionLost(f"expected a server at {self._url}: {error}") from None

    async def send(self, event: Event) -> None:
        """Hand an event over; while the connection is broken it waits. Of what waits, the oldest
        is lost beyond 30 s of audio. Raises nothing: receive() says that a call is over."""
        text = json.dumps(event)
        self._kept.append(text)
        self._size += len(text)
        self._count += 1
        while self._size > _KEPT and len(self._kept) > 1:
            self._size -= len(self._kept.popleft())
        await self._give()

    async def receive(self) -> Event:
        """The server's next event, each once and in order. Raises ConnectionLost."""
        while True:
            try:
                event: Event = json.loads(await self._ws.recv())
            except ConnectionClosed as error:
                if error.rcvd is not None or self._resume is None:
                    raise ConnectionLost(f"the server closed the call: {error}") from None
                await self._come_back(self._resume)
                continue
            self._last = event.get("seq", self._last)
            if event["type"] == "session.created":
                self._resume = event.get("session", {}).get("conch", {}).get("resume")
            return event

    async def close(self) -> None:
        """Hang up; nobody may be receiving any more."""
        if self._again:
            self._again.cancel()
        await self._ws.close()

    # --- coming back ----------------------------------------------------------------------

    async def _connect(self, query: Event) -> ClientConnection:
        separator = "&" if "?" in self._url else "?"
        url = self._url + separator + urlencode({"ext": "conch.1", **query})
        return await connect(
            url,
            additional_headers=self._headers,
            max_size=1 << 20,
            max_queue=None,
            ping_interval=_PING,
            ping_timeout=_PING,
            close_timeout=_FAREWELL,
        )

    async def _come_back(self, resume: Event) -> None:
        """Go on with the call. Raises ConnectionLost when that cannot be done in time."""
        self._changed(False)
        _log.warning("the connection broke after event %d", self._last)
        wait, reason = _FIRST_WAIT, "the server did not answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(resume["grace_s"]):
                while True:
                    try:
                        return await self._go_on(resume["token"])
                    except InvalidStatus as error:
                        reason = (error.response.body or b"").decode(errors="replace")
                        if error.response.status_code < 500:
                            raise ConnectionLost(f"the call cannot go on: {reason}") from None
                    except (OSError, WebSocketException) as error:
                        reason = str(error)
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, _LONGEST_WAIT)
        raise ConnectionLost(f"the connection broke and was not there again in time: {reason}")

    async def _go_on(self, token: str) -> None:
        ws = await self._connect({"resume": token, "after": self._last})
        resumed = json.loads(await ws.recv())
        self._ws, self._resume = ws, resumed["resume"]
        if self._again:
            self._again.cancel()
        self._given = resumed["input_events"]
        # Beside what is received: a server that is behind with recognition makes it wait.
        self._again = asyncio.create_task(self._give())
        self._changed(True)

    async def _give(self) -> None:
        """Send what the connection was not given yet; where it breaks, the rest stays."""
        with suppress(ConnectionClosed):
            async with self._giving:
                while self._given < self._count:
                    at = max(0, self._given - self._count + len(self._kept))
                    self._given = self._count - len(self._kept) + at + 1
                    await self._ws.send(self._kept[at])
