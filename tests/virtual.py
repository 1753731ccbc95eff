"""An event loop whose clock jumps: what takes fifty minutes takes as long as its work."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_THREAD = 60.0
"""Seconds of real time that a thread may take before virtual time is said to stand still."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, moves its loop's clock on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        threads = timeout is None or (timeout > 0 and self.loop.threads)
        if ready := super().select(_THREAD if threads else 0):
            return ready
        if timeout is None:
            raise RuntimeError("virtual time stands still: everybody waits and no timer is set")
        self.loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Of a socket, both ends must be in it: what is on its way between them takes no time, and
    neither does what a thread does."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.now = 0.0
        self.threads = 0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _future: Any) -> None:
        self.threads -= 1


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
