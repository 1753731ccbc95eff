"""A loudspeaker's timeline: what plays when, what of an item has been heard, what a cut leaves.

Pure: positions are samples that the loudspeaker has played, which its owner counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from assistant.clients.line import RATE
from speech.interfaces import Pcm


@dataclass
class Played:
    """A stretch of the assistant's audio on the caller's loudspeaker."""

    item_id: str
    start: int
    """Sample of the call at which it began."""
    pcm: Pcm


class Loudspeaker:
    """Plays audio deltas one after the other; all positions are samples of the call.

    A sound card's own thread may ask for `sound` at any time: `played` only grows at its end, or is
    replaced."""

    def __init__(self) -> None:
        self.played: list[Played] = []
        self.gaps: list[tuple[float, float]] = []
        """(second of the call, seconds of silence) for each time it ran dry within a reply."""
        self.cuts: list[tuple[float, str]] = []
        """(second of the call, item) for each time it was emptied while that item played."""
        self._end = 0
        self._forgotten: Counter[str] = Counter()
        """Samples of each item that were played and let go of."""

    @property
    def end(self) -> int:
        """The sample at which all that came will have been played."""
        return self._end

    def play(self, item_id: str, pcm: Pcm, now: int) -> None:
        same = bool(self.played) and self.played[-1].item_id == item_id
        if same and now > self._end:
            self.gaps.append((self._end / RATE, (now - self._end) / RATE))
        start = max(now, self._end)
        self.played.append(Played(item_id, start, pcm))
        self._end = start + len(pcm)

    def sound(self, start: int, count: int) -> Pcm:
        """What it played from sample `start` on, shape (count,)."""
        heard = np.zeros(count, np.int16)
        for part in reversed(self.played):
            offset = part.start - start
            if offset + len(part.pcm) <= 0:
                break
            if offset < count:
                piece = part.pcm[max(0, -offset) : count - offset]
                heard[max(0, offset) : max(0, offset) + len(piece)] = piece
        return heard

    def heard(self, item_id: str, now: int) -> int:
        """Samples of that item played by `now`."""
        parts = (p for p in self.played if p.item_id == item_id)
        kept = sum(min(max(now - p.start, 0), len(p.pcm)) for p in parts)
        return self._forgotten[item_id] + kept

    def forget(self, before: int) -> None:
        """Let go of the sound that was over by then; `heard` still counts it."""
        over = [p for p in self.played if p.start + len(p.pcm) <= before]
        for part in over:
            self._forgotten[part.item_id] += len(part.pcm)
        self.played = self.played[len(over) :]

    def flush(self, now: int) -> tuple[str, int] | None:
        """Fall silent: (item that was playing, samples of it that were heard), or None."""
        if now >= self._end:
            return None
        item_id = next(p.item_id for p in self.played if p.start + len(p.pcm) > now)
        samples = self.heard(item_id, now)
        kept = [replace(p, pcm=p.pcm[: now - p.start]) for p in self.played if p.start < now]
        self.played, self._end = kept, now
        self.cuts.append((now / RATE, item_id))
        return item_id, samples
