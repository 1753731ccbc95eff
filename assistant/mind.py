"""One call's slot of the language model: what it reads while there is nothing to answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from assistant import floor
from assistant.interruption import tells
from assistant.tasks import Tasks
from llm.interfaces import LanguageModelError, Prompt, ReplyPart, Sampling

if TYPE_CHECKING:
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

_LONG_NUMBER = re.compile(r"\d(?:[ .,:/-]?\d){2,}")
"""A telephone's, a date's, a time's."""


class Mind:
    """Does one thing at a time: reads ahead, or answers."""

    def __init__(
        self,
        engines: Engines,
        tasks: Tasks,
        prompt: Callable[[str], Prompt],
        rated: Callable[[floor.Rated], None],
    ) -> None:
        """`prompt`: the conversation, with the words of a turn under way; `rated` is told how
        likely a sentence ends after them. Raises NoFreeSlot."""
        self._engines, self._tasks = engines, tasks
        self._prompt, self._rated = prompt, rated
        self.llm = engines.llm.open()
        """What answers; a long call changes it for another (upkeep.py)."""
        self.free = asyncio.Lock()
        """Held while it is used."""
        self._unread: str | None = None
        """Words of the turn under way that are to be read next."""
        self._reading: asyncio.Task[None] | None = None

    def read(self, text: str) -> None:
        """Read the conversation and the turn so far, when there is time."""
        self._unread = text
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.spawn(self._read_ahead())

    def attend(self) -> None:
        """Something is to be answered: stop reading."""
        self._unread = None
        if self._reading:
            self._reading.cancel()

    async def answer(
        self, prompt: Callable[[], Prompt], sampling: Sampling
    ) -> AsyncGenerator[ReplyPart, None]:
        """The answer to what `prompt` gives when it is time for it. Raises LanguageModelError."""
        async with self.free:
            asked = prompt()
            sampling = replace(sampling, varied=only_tells(asked))
            async with aclosing(self.llm.reply(asked, sampling)) as parts:
                with self._engines.answering():
                    async for part in parts:
                        yield part

    async def close(self) -> None:
        """Give the slot back."""
        async with self.free:
            await self.llm.close()

    async def _read_ahead(self) -> None:
        while self._unread is not None:
            async with self.free:
                text, self._unread = self._unread, None
                prompt = self._prompt(text)
                try:
                    async with self._engines.undisturbed():
                        ends = await self.llm.prefill(prompt)
                    if text and ends is not None:
                        self._rated(floor.Rated(text, ends))
                except LanguageModelError as error:
                    _log.warning("nothing was read ahead: %s", error)


def only_tells(prompt: Prompt) -> bool:
    """Whether the caller has only told something, but no long number: that is said back exactly."""
    last = prompt.messages[-1] if prompt.messages else None
    if last is None or last.role != "user" or prompt.tools:
        return False
    return tells(last.content) and not _LONG_NUMBER.search(last.content.rpartition("\n")[2])
