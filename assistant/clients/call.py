"""One call as a client keeps it: what happened in it and when, and ways to wait for more."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from assistant.clients.handset import Handset
from assistant.clients.line import RATE, CallError, Event, Line
from speech.interfaces import Pcm


class Call:
    """Use it as an async context manager. What speaks into it is the subclass's `_talk`."""

    def __init__(self, url: str, api_key: str = "", session: Event | None = None) -> None:
        """`url` is the websocket's; `session` is sent as the first session.update."""
        self.line = Line(url, api_key, session)
        self.handset = Handset(self.line, self.position)
        self.speaker = self.handset.speaker
        self.events: list[tuple[float, Event]] = []
        """(second of the call, event), audio deltas without their audio."""
        self.closed = ""
        """Why the call has ended, once it has."""
        self.muted = False
        self._seen: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._began = 0.0

    async def __aenter__(self) -> Self:
        await self.line.open()
        self._began = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._speak())]
        try:
            await self.wait_for("session.created", 10)
            await self.wait_for("session.updated", 10)
        except BaseException:
            await self.hang_up()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.line.close()

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        return asyncio.get_running_loop().time() - self._began

    def position(self) -> int:
        """Samples that the loudspeaker has played since the call began."""
        return round(self.now * RATE)

    async def send(self, event: Event) -> None:
        await self.line.send(event)

    async def wait_for(self, kind: str, timeout: float) -> Event:
        """The next event of that type which wait_for has not returned yet. Raises CallError."""
        try:
            async with asyncio.timeout(timeout), self._news:
                while True:
                    for at in range(self._seen.get(kind, 0), len(self.events)):
                        if self.events[at][1]["type"] == kind:
                            self._seen[kind] = at + 1
                            return self.events[at][1]
                    self._seen[kind] = len(self.events)
                    if self.closed:
                        raise CallError(f"expected {kind}, but the call ended: {self.closed}")
                    await self._news.wait()
        except TimeoutError:
            last = [event["type"] for _, event in self.events[-5:]]
            raise CallError(f"expected {kind} within {timeout:g} s; the last were {last}") from None

    async def until(self, happened: Callable[[], bool], timeout: float) -> bool:
        """Wait until an event has made `happened` true; False when none did in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                while not (happened() or self.closed):
                    await self._news.wait()
        return happened()

    def forget(self, kind: str) -> None:
        """wait_for looks for that type only among what comes from now on."""
        self._seen[kind] = len(self.events)

    async def hear(self, item_id: str, seconds: float) -> None:
        """Wait until the loudspeaker has played that much of an item, or all there is of it."""
        while self.speaker.heard(item_id, self.position()) < seconds * RATE:
            if any(_completed(event, item_id) for _, event in self.events):
                return await self.played_out()
            await asyncio.sleep(0.02)
        return None

    async def played_out(self) -> None:
        """Wait until the loudspeaker has played all it was given."""
        while (left := self.speaker.end - self.position()) > 0:
            await asyncio.sleep(left / RATE)

    async def ended(self) -> str:
        """Wait for the end of the call; why it came."""
        await self.until(lambda: bool(self.closed), math.inf)
        return self.closed

    async def _talk(self) -> None:
        """Give the microphone's frames to `_say`, until cancelled."""
        raise NotImplementedError

    async def _say(self, frame: Pcm) -> None:
        await self.line.hear(np.zeros_like(frame) if self.muted else frame)

    async def _speak(self) -> None:
        try:
            await self._talk()
        except CallError as error:
            await self._end(str(error))

    async def _keep(self) -> None:
        reason = "this client failed"
        try:
            async for event in self.handset.events():
                async with self._news:
                    self.events.append((self.now, event))
                    self._news.notify_all()
        except CallError as error:
            reason = str(error)
        finally:
            await self._end(reason)

    async def _end(self, reason: str) -> None:
        async with self._news:
            self.closed = self.closed or reason
            self._news.notify_all()


def _completed(event: Event, item_id: str) -> bool:
    return (event["type"], event.get("item_id")) == ("response.output_audio.done", item_id)
