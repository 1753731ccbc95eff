"""The only place that reads a clock; everything else is handed the time."""

from __future__ import annotations

import time


def clock() -> float:
    """Seconds on a monotonic clock; only differences mean anything."""
    return time.monotonic()
