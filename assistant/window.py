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


@dataclass(frozen=True, slots=True)
class Window:
    """Of the items of one conversation, in order."""

    size: int = 6000
    """With more than that in it, it is time for the oldest items to leave."""
    limit: int = 7000
    """More than that is never given to the model."""
    first: str = ""
    """Id of the oldest item in it; empty, or no longer there: all are."""
    summary: str = ""
    """Of what has left it."""

    @classmethod
    def within(cls, size: int, context: int) -> Window:
        """At most `size`, with room for instructions and a reply in a context of `context`."""
        return cls(min(size, context * 3 // 4), context * 7 // 8)

    def items(self, items: Sequence[Item]) -> Sequence[Item]:
        start = next((at for at, item in enumerate(items) if item.id == self.first), 0)
        return items[start:]

    def is_full(self, items: Sequence[Item]) -> bool:
        """Whether items should leave it, and can: what the caller said last stays, whatever its
        size, with the reply to it."""
        return self.tokens(items) > self.size and _last_turn(self.items(items)) > 0

    def fitting(self, items: Sequence[Item]) -> Window:
        """Itself, or moved on where the limit leaves no time to sum up what leaves."""
        if self.tokens(items) <= self.limit:
            return self
        moved = self.moved(items, self.summary)
        return moved if moved.tokens(items) <= self.limit else replace(moved, first=items[-1].id)

    def moved(self, items: Sequence[Item], summary: str) -> Window:
        """Without the oldest items: half of its size stays, and begins with the caller."""
        inside = self.items(items)
        last = _last_turn(inside)
        left, start = self.tokens(items), 0
        while start < last and (left > self.size // 2 or inside[start].role != "user"):
            left -= inside[start].tokens
            start += 1
        return replace(self, first=inside[start].id, summary=summary)

    def tokens(self, items: Sequence[Item]) -> int:
        return sum(item.tokens for item in self.items(items))


def _last_turn(items: Sequence[Item]) -> int:
    """Where the caller's last turn is, or the last item where there is none."""
    turns = (at for at in reversed(range(len(items))) if items[at].role == "user")
    return next(turns, len(items) - 1)
