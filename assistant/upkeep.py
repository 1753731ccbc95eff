"""What keeps a long call's first token early: its prompt is shortened while nobody speaks.

When the conversation has outgrown its window,

1. the model sums the call up; its cache holds the call already, so only the request is read;
2. the shorter prompt, with the summary and the latest turns, is read into a second slot, piece by
   piece, while the first one still answers;
3. the second slot takes the first one's place.

Each step waits for quiet and is broken off by the first sound of speech; the next quiet goes on
from there. So no reply waits for it. There is one second slot for all calls: while another call
has it, the window grows on, up to its limit.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from assistant.memory import Memory
from assistant.tasks import Tasks
from assistant.wire.settings import SessionSettings
from llm.interfaces import (
    LanguageModel,
    LanguageModelError,
    Message,
    Prompt,
    Sampling,
    TextDelta,
)

if TYPE_CHECKING:
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

REQUEST = (
    "Sum up our call so far for your own memory, in at most eighty words and in my language: my "
    "name, facts about me, what I wish and what we agreed on. Write only the summary."
)
_SUMMARY = Sampling(temperature=0.0, max_tokens=160)


class UpkeepOwner(Protocol):
    """What it needs of its session."""

    memory: Memory
    settings: SessionSettings


class Slot(Protocol):
    """What it needs of the call's Mind."""

    llm: LanguageModel
    """What answers; changed for another one."""
    free: asyncio.Lock
    """Held while `llm` is used."""


class Upkeep:
    """One call's."""

    def __init__(self, owner: UpkeepOwner, slot: Slot, engines: Engines, tasks: Tasks) -> None:
        self._owner, self._slot, self._engines, self._tasks = owner, slot, engines, tasks
        self._work: asyncio.Task[None] | None = None
        self._from = self._next = owner.memory.conversation.window
        """Where the window is to move once that has been read, and where it was when that was
        decided; the same while nothing is to be done."""
        self._spare: LanguageModel | None = None
        self._read: tuple[Message, ...] = ()
        """What of the next prompt the spare slot has read."""

    def heed(self, *, quiet: bool) -> None:
        """Begin, go on or break off."""
        if not quiet:
            if self._work:
                self._work.cancel()
        elif self._wanted and (self._work is None or self._work.done()):
            self._work = self._tasks.spawn(self._shorten())

    async def close(self) -> None:
        """Give the second slot back; may be done again where it was broken off."""
        if self._spare:
            await self._spare.close()
            self._spare = None
            self._engines.spare.release()

    @property
    def _wanted(self) -> bool:
        return self._planned or self._owner.memory.conversation.is_full

    @property
    def _planned(self) -> bool:
        """Whether the call is summed up, and its window has not been moved otherwise since."""
        return self._from == self._owner.memory.conversation.window != self._next

    async def _shorten(self) -> None:
        try:
            if self._spare is None:
                if self._engines.spare.locked():
                    return
                self._spare = self._engines.llm.open()
                await self._engines.spare.acquire()
            if not self._planned:
                await self._sum_up()
            await self._read_all(self._spare)
        except LanguageModelError as error:
            _log.warning("the prompt is not shortened: %s", error)
        await self.close()

    async def _sum_up(self) -> None:
        owner, text = self._owner, ""
        async with self._slot.free, self._engines.leisure():
            prompt = owner.memory.prompt(owner.settings.response())
            asked = replace(prompt, messages=(*prompt.messages, Message("user", REQUEST)))
            async with aclosing(self._slot.llm.reply(asked, _SUMMARY)) as parts:
                async for part in parts:
                    if isinstance(part, TextDelta):
                        text += part.text
        # A model that says nothing still has to forget.
        self._from = owner.memory.conversation.window
        self._next = owner.memory.conversation.moved(" ".join(text.split()))

    async def _read_all(self, spare: LanguageModel) -> None:
        """Read up to where the call is now, and let the spare slot answer from there on."""
        owner = self._owner
        while self._read != (prompt := self._prompt()).messages:
            upto = _next_stop(prompt, self._read)
            async with self._engines.leisure():
                await spare.prefill(replace(prompt, messages=prompt.messages[:upto]))
            self._read = prompt.messages[:upto]
        async with self._slot.free:
            self._slot.llm, self._spare = spare, self._slot.llm
            owner.memory.conversation.window = self._next
            self._read = ()

    def _prompt(self) -> Prompt:
        return self._owner.memory.prompt(self._owner.settings.response(), window=self._next)


def _next_stop(prompt: Prompt, read: tuple[Message, ...]) -> int:
    """How many messages to read next: to the caller's turn after those that are read, so that a
    piece takes about a second. What is read and has changed is read again."""
    messages = prompt.messages
    same = len(read) if messages[: len(read)] == read else 0
    turns = (at for at in range(same + 1, len(messages)) if messages[at].role == "user")
    return next(turns, len(messages))
