"""Hypothesis: no deadline, since two cores are shared; in CI the same examples every time."""

from __future__ import annotations

import asyncio
import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Without this pytest-asyncio makes itself a loop that nobody closes, and the warning about it
# fails whatever test runs when it is collected.
asyncio.set_event_loop(None)
