"""The machine that a kiosk runs on: its supervisor, its lights, its button."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

_STATUS_LIMIT = 5.0
"""Seconds that a status command may take."""

_LOG = logging.getLogger(__name__)


class Supervisor:
    """systemd's side of a service (sd_notify(3), sd_watchdog_enabled(3)); nothing without it."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._every = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        """Seconds between two signs of life: half of what is allowed."""
        self._next = 0.0

    def ready(self) -> None:
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """For `systemctl status`."""
        self._tell(f"STATUS={text}")

    def alive(self, now: float) -> None:
        """Call it as often as you like while all is well; `now` is in seconds."""
        if self._every and now >= self._next:
            self._next = now + self._every
            self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ is systemd's way to write an abstract socket.
        path = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(message.encode(), path)


class StatusCommand:
    """Runs a command with a state's name as its last argument, one at a time. States that come and
    go while it runs are skipped; the last one never is."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        self._news: asyncio.Queue[str] = asyncio.Queue(1)

    def tell(self, state: str) -> None:
        """Returns at once."""
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait(state)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            state = await self._news.get()
            if self._words:
                await self._run(state)

    async def _run(self, state: str) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, state, stdin=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            _LOG.warning("status command: %s: %s", self._words[0], error.strerror)
            return
        try:
            async with asyncio.timeout(_STATUS_LIMIT):
                await process.wait()
        except TimeoutError:
            _LOG.warning("status command: not done with %r in %g s", state, _STATUS_LIMIT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def watch_button(command: str, pressed: Callable[[], None]) -> None:
    """Each line that the command prints is a press, as those of gpiomon are. Until cancelled, or
    until the command ends."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while process.stdout and await process.stdout.readline():
            pressed()
        _LOG.warning("button: the command ended with code %s", await process.wait())
    finally:
        if process.returncode is None:
            # Its children too: one that held the pipe open would be waited for.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
