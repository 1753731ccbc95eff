"""How much of the processor a thread asks for."""

from __future__ import annotations

import os
import sys
import threading

_NICE = 10


def give_way() -> None:
    """Let this thread, and those that it makes, run after others. Tokens come five times as fast
    as they are spoken; recognition and synthesis are short, and the caller waits for them."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own to set
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
