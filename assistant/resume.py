"""Calls that outlive their connection: a client that was cut off comes back to the same call.

    connected ──drop──▶ waiting ──resume──▶ connected        (a resume may come before the drop
        │                  │                                  is noticed: it takes over)
        └──hang-up──▶ over ◀──grace is over, events do not fit, server stops

The session sees one Transport all along. While the call waits nothing is sent; what the session
says is numbered and kept (replay.py), and so is what was sent of late, for nobody knows how much
of that arrived. The client names the last number that it has and is sent what follows. In the
other direction it is told how many of its events, and how much of its audio, the call has taken
in, and sends the rest again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from typing import Any, Protocol

from assistant.http_common import ApiError
from assistant.outbox import SLOW_CLIENT
from assistant.replay import Jammed, Replay
from assistant.tasks import Tasks
from assistant.wire import realtime as wire

_log = logging.getLogger(__name__)

TAKEN_OVER = 4000
"""Close code (of those for private use) of a connection whose call goes on over another one."""
GOING_NOWHERE = 1008
"""Close code of a connection whose call has ended while it was being made."""
_SPENT = 256
"""Tokens whose end is remembered, so that whoever shows one is told why it opens nothing."""


class Link(Protocol):
    """One connection of a call."""

    dropped: bool
    """Once receive() has answered None: whether the client meant to go on."""

    async def receive(self) -> str | bytes | None: ...

    async def send(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class ResumedCall(Protocol):
    """What a call must know of its connection."""

    def dropped(self) -> None:
        """Nobody is there; comes before each resumed()."""

    def resumed(self, missed: list[str]) -> int:
        """The client is back and is sent these events again; answers the milliseconds of audio
        taken in from it."""


class Registry:
    """Which call a resume token opens; each token does so once."""

    def __init__(self) -> None:
        self._lines: dict[str, ResumableLine] = {}
        self._spent: OrderedDict[str, str] = OrderedDict()

    def issue(self, line: ResumableLine) -> str:
        token = secrets.token_urlsafe(32)
        self._lines[token] = line
        return token

    def claim(self, token: str, after: str) -> tuple[ResumableLine, int]:
        """The call that this token opens, and the last event that its client has; the token is
        used up. Raises ApiError, which does not name it."""
        if token not in self._lines:
            why = self._spent.get(token, "expected the resume token of a call, got another one")
            raise ApiError(404, why, code="invalid_resume_token")
        if not (after.isascii() and after.isdigit()):
            message = "after: expected the seq of the last event received, got no number"
            raise ApiError(400, message, code="invalid_value")
        line = self._lines[token]
        self.retire(token, "the resume token has been used; each opens its call once")
        line.check(int(after))
        return line, int(after)

    def retire(self, token: str, why: str) -> None:
        """It opens nothing any more."""
        if self._lines.pop(token, None):
            self._spent[token] = why
            while len(self._spent) > _SPENT:
                self._spent.popitem(last=False)


class _Connection:
    """A link, until it is let go of."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.delivering: asyncio.Task[None] | None = None

    async def receive(self) -> str | bytes | None:
        """The next message; None when the link has ended or was let go of."""
        reading = asyncio.ensure_future(self.link.receive())
        try:
            await asyncio.wait((reading, self.released), return_when=asyncio.FIRST_COMPLETED)
            # What came too late is not counted, so the client sends it again.
            return None if self.released.done() else reading.result()
        finally:
            reading.cancel()

    def release(self) -> None:
        if not self.released.done():
            self.released.set_result(None)
        if self.delivering:
            self.delivering.cancel()


class ResumableLine:
    """A session's transport and outbox in one, over one connection after the other."""

    def __init__(self, link: Link, registry: Registry, limit: int, grace: float) -> None:
        """`limit`: characters of events kept; `grace`: seconds for which a call waits."""
        self.call: ResumedCall | None = None
        self._registry, self._grace = registry, grace
        self._token = ""
        self._replay = Replay(limit)
        self._connection: _Connection | None = _Connection(link)
        self._sent = self._taken_in = 0
        """Number of the last event that a connection was given; how many of the client's the
        call was."""
        self._more, self._change, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._why, self._jam = "", ""
        self._grace_ends: asyncio.TimerHandle | None = None
        self._tasks = Tasks(lambda error: _log.error("a connection broke", exc_info=error))

    @property
    def gone(self) -> bool:
        """The call is over; while it waits it is not."""
        return self._over.is_set()

    def offer(self) -> dict[str, Any]:
        """What the client needs in order to come back."""
        self._token = self._registry.issue(self)
        return {"token": self._token, "grace_s": self._grace}

    # --- what the session uses ------------------------------------------------------------

    def put(self, event: wire.Event) -> None:
        """Send an event, now or when the client is back."""
        if self.gone:
            return
        try:
            self._replay.add(event, self._sent)
        except Jammed as error:
            self._jam = str(error)
            self._end(self._jam)
        self._more.set()

    async def run(self) -> None:
        """Send until the call is over."""
        if self._connection:
            self._deliver(self._connection)
        await self._over.wait()
        if self._jam:
            await self.close(SLOW_CLIENT, self._jam)

    async def receive(self) -> str | bytes | None:
        """The client's next message, whichever connection it comes by; None when the call is
        over."""
        while not self.gone:
            connection = self._connection
            if connection is None:
                self._change.clear()
                await self._change.wait()
                continue
            raw = await connection.receive()
            if raw is not None:
                self._taken_in += 1
                return raw
            self._lost(connection)
        return None

    async def send(self, text: str) -> None:
        """What is no event of the call, such as a refusal: unnumbered, and not kept."""
        if self._connection:
            await self._connection.link.send(text)

    async def close(self, code: int, reason: str) -> None:
        self._end(reason or "the call is over")
        connection, self._connection = self._connection, None
        if connection:
            await connection.link.close(code, reason)
            connection.release()
        self._tasks.cancel()
        await self._tasks.ended()

    # --- one connection after the other ---------------------------------------------------

    def check(self, after: int) -> None:
        """Whether a client that has the events up to that number can go on. Raises ApiError."""
        if self._replay.keeps(after):
            return
        if after > self._replay.last:
            message = f"after: expected at most {self._replay.last}, the last event, got {after}"
            raise ApiError(400, message, code="invalid_value")
        message = f"events after {after} are no longer kept, the oldest is {self._replay.first}"
        self._end(message)
        raise ApiError(404, message, code="invalid_resume_token")

    async def carry(self, link: Link, after: int) -> None:
        """Go on over this connection, whose client has the events up to number `after`; returns
        when the call does not use it any more."""
        call = self.call
        if self.gone or call is None or not self._replay.keeps(after):
            await link.close(GOING_NOWHERE, self._why)
            return
        self._drop()
        missed = self._replay.since(after)
        _log.info("a call goes on over another connection, %d events were missed", len(missed))
        self._sent = after
        self._connection = connection = _Connection(link)
        resumed = wire.session_resumed(self.offer(), call.resumed(missed), self._taken_in)
        self._deliver(connection, wire.encode(resumed))
        self._change.set()
        await connection.released

    def _deliver(self, connection: _Connection, first: str = "") -> None:
        connection.delivering = self._tasks.spawn(self._send_all(connection.link, first))

    async def _send_all(self, link: Link, first: str) -> None:
        if first:
            await link.send(first)
        while True:
            self._more.clear()
            while self._sent < self._replay.last:
                self._sent += 1
                await link.send(self._replay.text(self._sent))
            await self._more.wait()

    def _lost(self, connection: _Connection) -> None:
        """It has brought its last message."""
        if connection is not self._connection:
            return
        if not (connection.link.dropped and self._token):
            self._end("the caller has hung up")
            return
        self._drop()
        _log.info("a call has lost its connection and waits %g s", self._grace)
        why = f"the call is over: nobody came back within {self._grace:g} s"
        self._grace_ends = asyncio.get_running_loop().call_later(self._grace, self._end, why)

    def _drop(self) -> None:
        """Let go of the connection there is, which may seem to be alive."""
        if self._grace_ends:
            self._grace_ends.cancel()
        connection, self._connection = self._connection, None
        if connection:
            connection.release()
            reason = "the call goes on over another connection"
            self._tasks.spawn(connection.link.close(TAKEN_OVER, reason))
        if self.call:
            self.call.dropped()

    def _end(self, why: str) -> None:
        if self.gone:
            return
        _log.info("a call that could be resumed ends: %s", why)
        self._why = why
        self._registry.retire(self._token, why)
        if self._grace_ends:
            self._grace_ends.cancel()
        self._over.set()
        self._change.set()
