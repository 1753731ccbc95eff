"""Hypothesis: few examples, so that the pure tests stay under two seconds, and no deadline, since
two cores are shared; `pytest --hypothesis-profile=thorough` looks longer."""

from __future__ import annotations

import asyncio
import os

from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=15)
settings.register_profile("ci", deadline=None, max_examples=15, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=1500)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Without this pytest-asyncio makes itself a loop that nobody closes, and the warning about it
# fails whatever test runs when it is collected.
asyncio.set_event_loop(None)
