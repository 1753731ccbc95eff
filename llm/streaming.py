"""A blocking engine call, run in a thread and read as an asynchronous stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from llm.interfaces import LanguageModelError

Receive = Callable[[Any], bool]
"""Takes one chunk from the engine; True asks the engine to stop."""
Work = Callable[[Receive], None]


class BlockingStream:
    """The chunks that `work` gives to its callback.

    The queue between thread and loop has no limit of its own: a reply ends at its max_tokens
    and a prompt at the context, and making the engine wait would hold up other calls."""

    def __init__(self, executor: Executor, work: Work) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[Any] = asyncio.Queue()
        self._stopped = threading.Event()
        self._work = work
        self._done = self._loop.run_in_executor(executor, self._run)
        self._done.add_done_callback(self._end)

    def __aiter__(self) -> BlockingStream:
        return self

    async def __anext__(self) -> Any:
        """The next chunk. Raises LanguageModelError when the engine failed."""
        chunk = await self._chunks.get()
        if chunk is None:
            self._chunks.put_nowait(None)
            await self._done
            raise StopAsyncIteration
        return chunk

    async def stop(self) -> None:
        """Ask the engine to stop and wait until it has; at once when it is over already."""
        self._stopped.set()
        await asyncio.shield(asyncio.wait({self._done}))

    def _end(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            done.exception()  # A stopped stream has no reader left to take its failure.
        self._chunks.put_nowait(None)

    def _run(self) -> None:
        if self._stopped.is_set():
            return
        try:
            self._work(self._receive)
        except (RuntimeError, ValueError, OSError) as error:
            raise LanguageModelError(f"the language model failed: {error}") from error

    def _receive(self, chunk: Any) -> bool:
        if self._stopped.is_set():
            return True
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
        return False
