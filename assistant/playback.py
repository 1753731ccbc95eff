"""One reply's audio, paced to real time plus a small lead; knows what was sent and heard.

Pure: time comes in as seconds of any monotonic clock. The lead is what the caller's end has
buffered: enough to ride out the network's jitter, little enough that a held reply falls
silent soon.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from speech.interfaces import Pcm

_ROUNDING = 0.01
"""Samples by which floating-point seconds may miss: 0.04 s at 24 kHz must not give 959."""


_FADE = 0.008


class Playback:
    """Paces one reply. Sent but not yet heard is never more than `lead` plus one `chunk`.

    The paced clock says what was heard: from each start it runs in real time until it has
    reached what was sent, then it stands still until more is sent."""

    def __init__(
        self, rate: int, lead: float = 0.25, chunk: float = 0.04, fade: float = _FADE
    ) -> None:
        """`rate` in Hz; `lead`, `chunk` and `fade`, which a held voice rises in, in seconds."""
        self.sent = 0
        """Samples handed out by due()."""
        self.underruns = 0
        """Times that the caller's buffer ran dry before the end, holds not counted."""
        self.rate = rate
        """Hz."""
        self._lead = round(lead * rate)
        self._chunk = max(1, round(chunk * rate))
        self._queue: deque[Pcm] = deque()
        self._offset = 0  # samples of the queue's first block that were sent
        self._queued = 0
        self._finished = False
        self._held = False
        self._fade = int(fade * rate)
        self._fading = False  # the next block is the first after a hold
        self._dry_excused_from: float | None = None
        self._base = 0  # the clock: sample `_base` is heard at `_base_at`
        self._base_at = 0.0
        self._now = 0.0
        self._confirmed: int | None = None  # what the client last said to have played

    @property
    def all_sent(self) -> bool:
        return self._finished and not self._queued

    def add(self, pcm: Pcm) -> None:
        """More audio, int16 of shape (n,); it is not copied. Raises ValueError once finished."""
        if self._finished:
            raise ValueError(f"expected no audio after finish(), got {len(pcm)} samples")
        if len(pcm):
            self._queue.append(pcm)
            self._queued += len(pcm)

    def finish(self) -> None:
        """No more audio comes."""
        self._finished = True

    def due(self, now: float) -> Pcm:
        """The samples to send now: whole chunks, except at the reply's end; often none."""
        self._now = now
        room = self._lead - (self.sent - self.heard(now))
        if self._held or room < 0:
            return np.empty(0, np.int16)
        count = min(room // self._chunk + 1, self._queued // self._chunk) * self._chunk
        if self._finished and count + self._chunk > self._queued and count <= room:
            count = self._queued
        if count:
            self._restart_if_dry(now)
            self.sent += count
            self._dry_excused_from = None
        return self._pop(count)

    def timer(self) -> float | None:
        """When due() next has something; None when held or when nothing whole is queued."""
        whole = self._queued >= self._chunk or (self._finished and self._queued)
        if self._held or not whole:
            return None
        return max(self._now, self.time_of(self.sent - self._lead))

    def hold(self, now: float) -> None:
        """Stop sending. What was sent plays out, then the clock stands still."""
        self._now = now
        self._held = True
        if self._dry_excused_from is None:
            self._dry_excused_from = now

    def resume(self, now: float) -> None:
        """Go on with the very next sample, faded in over a few milliseconds."""
        self._now = now
        self._fading = self._fading or self._held
        self._held = False
        if now < self.time_of(self.sent):  # it never ran dry, so nothing is to be excused
            self._dry_excused_from = None

    def heard(self, now: float) -> int:
        """Samples heard by `now`; never more than sent. Goes back only when acked() says so."""
        passed = int((now - self._base_at) * self.rate + _ROUNDING)
        return min(self.sent, self._base + max(0, passed))

    def acked(self, samples: int, now: float) -> None:
        """The client reports that it had played `samples` by `now`; trusted over the clock."""
        self._now = now
        self._base, self._base_at = min(max(samples, 0), self.sent), now
        self._confirmed = self._base

    def repeated(self, samples: int, now: float) -> None:
        """The client has heard all but the last `samples` of what was sent, which it is sent
        again and begins to play."""
        self._now = now
        self._base, self._base_at = max(self.sent - samples, 0), now

    def unseen(self, now: float) -> None:
        """The client cannot be asked: of a client that reports what it has played, nothing
        after that was heard."""
        if self._confirmed is not None:
            self._base, self._base_at = self._confirmed, now

    def drained_at(self) -> float | None:
        """When the last sample will have been heard; None until all were sent."""
        return self.time_of(self.sent) if self.all_sent else None

    def time_of(self, sample: int) -> float:
        """When that sample, of those sent, is heard."""
        return self._base_at + (sample - self._base) / self.rate

    def _restart_if_dry(self, now: float) -> None:
        dry_at = self.time_of(self.sent)
        if now < dry_at:
            return
        excused = self._dry_excused_from is not None and dry_at >= self._dry_excused_from
        if self.sent and not excused and now > dry_at + 1 / self.rate:
            self.underruns += 1
        self._base, self._base_at = self.sent, now

    def _pop(self, count: int) -> Pcm:
        parts: list[Pcm] = []
        self._queued -= count
        while count:
            block = self._queue[0][self._offset : self._offset + count]
            parts.append(block)
            count -= len(block)
            self._offset += len(block)
            if self._offset == len(self._queue[0]):
                self._queue.popleft()
                self._offset = 0
        pcm = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int16), *parts])
        return self._faded(pcm) if self._fading and len(pcm) else pcm

    def _faded(self, pcm: Pcm) -> Pcm:
        """`pcm` rising from silence, so that a voice that goes on does not click."""
        size, self._fading = min(self._fade, len(pcm)), False
        faded = pcm.copy()
        faded[:size] = pcm[:size] * np.linspace(0, 1, size)
        return faded
