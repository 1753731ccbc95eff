"""The only place that reads a clock; everything else is handed the time."""

from __future__ import annotations

import time


def clock() -> float:
    """Seconds on a monotonic clock; only differences mean anything."""
    return time.monotonic()


def wall() -> float:
    """Seconds since 1970, UTC, for records that people read."""
    return time.time()
