"""Beginnings of prompts that calls share, kept as the states of llama.cpp's slots.

Reading a system prompt of 54 tokens takes a second of both cores; putting its state back into a
slot takes 2 ms (Qwen2.5-Coder-1.5B, two cores). So only the first call with given instructions
reads them.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

_KEPT = 8

SlotAction = Callable[[int, Literal["save", "restore"], str], None]
"""Write a slot's state to, or read it from, a file in the directory. May raise OSError."""


class Prefixes:
    """The latest prefixes, each a file in a directory of their own. Safe in several threads."""

    def __init__(self, act: SlotAction) -> None:
        self._directory = TemporaryDirectory(prefix="conch-prefixes-")
        self._act = act
        self._names: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def directory(self) -> str:
        """As llama.cpp wants it, with a slash at the end."""
        return self._directory.name + "/"

    def restore(self, slot: int, prefix: str) -> bool:
        """Put the state behind `prefix` into `slot`; False when none is kept."""
        with self._lock:
            name = self._names.get(prefix)
            if name is None:
                return False
            self._names.move_to_end(prefix)
        self._act(slot, "restore", name)
        return True

    def save(self, slot: int, prefix: str) -> None:
        """Keep the state of `slot`, which has read `prefix` and nothing else."""
        name = hashlib.sha256(prefix.encode()).hexdigest()[:16]
        self._act(slot, "save", name)
        with self._lock:
            self._names[prefix] = name
            while len(self._names) > _KEPT:
                _, old = self._names.popitem(last=False)
                (Path(self._directory.name) / old).unlink(missing_ok=True)

    def close(self) -> None:
        self._directory.cleanup()
