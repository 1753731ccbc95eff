"""Which part of a long conversation the model is given: its latest items and a summary, pure.

The window moves by a big bite, so that between two moves only the prompt's end changes and the
model's cache stays good. Sizes are in tokens, as Item.tokens guesses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.conversation import Item

_TURNS = 4
"""The caller's latest items that stay, however long they are: a letter that is held up to the
camera, and what is asked about it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Of the items of one conversation, in order."""

    size: int = 6000
    """With more than that in it, it is time for the oldest items to leave."""
    limit: int = 7000
    """More than that is never given to the model."""
    picture: int = 0
    """Tokens of a picture, for a model that sees; another one is told of it in words."""
    first: str = ""
    """Id of the oldest item in it; empty, or no longer there: all are."""
    summary: str = ""
    """Of what has left it."""

    @classmethod
    def within(cls, size: int, context: int, picture: int = 0) -> Window:
        """At most `size`, with room for instructions and a reply in a context of `context`."""
        return cls(min(size, context * 3 // 4), context * 7 // 8, picture)

    def items(self, items: Sequence[Item]) -> Sequence[Item]:
        start = next((at for at, item in enumerate(items) if item.id == self.first), 0)
        return items[start:]

    def is_full(self, items: Sequence[Item]) -> bool:
        """Whether items should leave it, and so many can that the model reads it anew for that."""
        inside = self.items(items)
        tokens = self._tokens(inside)
        return tokens > self.size and 2 * self._tokens(inside[self._start(inside) :]) < tokens

    def fitting(self, items: Sequence[Item]) -> Window:
        """Itself, or moved on where the limit leaves no time to sum up what leaves."""
        inside = self.items(items)
        if self._tokens(inside) <= self.limit:
            return self
        fewer = (_stays(inside, turns) for turns in range(_TURNS - 1, 0, -1))
        starts = (self._start(inside), *fewer)
        fits = (at for at in starts if self._tokens(inside[at:]) <= self.limit)
        return replace(self, first=inside[next(fits, -1)].id)

    def moved(self, items: Sequence[Item], summary: str) -> Window:
        """Without the oldest items: half of its size stays, and begins with the caller."""
        inside = self.items(items)
        return replace(self, first=inside[self._start(inside)].id, summary=summary)

    def _start(self, inside: Sequence[Item]) -> int:
        """Where what stays begins: with the caller."""
        left, stays = self._tokens(inside), _stays(inside, _TURNS)
        for at, item in enumerate(inside[:stays]):
            if left <= self.size // 2 and item.role == "user":
                return at
            left -= self._tokens([item])
        return stays

    def _tokens(self, items: Sequence[Item]) -> int:
        return sum(item.tokens + self.picture * len(item.pictures) for item in items)


def _stays(items: Sequence[Item], turns: int) -> int:
    """Where the caller's latest `turns` items begin; 0 if there are not as many."""
    theirs = [at for at, item in enumerate(items) if item.role == "user"]
    return theirs[-turns] if len(theirs) >= turns else 0
