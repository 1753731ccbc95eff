"""The only module that reads clocks; everything else is given `now`, or asks its event loop."""

from __future__ import annotations

import time


def clock() -> float:
    """Monotonic seconds, for durations."""
    return time.perf_counter()


def wall() -> float:
    """Seconds since 1970, UTC, for records that people read."""
    return time.time()
