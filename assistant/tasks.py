"""What runs beside a call, and ends with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


class Tasks:
    """One call's. What goes wrong in one is reported, and the call goes on."""

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # Cancelled before its first step, the task has not touched it.
        task.add_done_callback(lambda _: work.close())
        return task

    def cancel(self, *others: asyncio.Task[None]) -> None:
        """Stop them all, and `others` with them."""
        for task in (*others, *self._running):
            task.cancel()

    async def ended(self, *others: asyncio.Task[None]) -> None:
        """Wait until they have all ended, and `others` too; what they ended on is logged."""
        for result in await asyncio.gather(*others, *self._running, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("the call ended on an error", exc_info=result)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # whatever it is, the call goes on
            self._report(error)
