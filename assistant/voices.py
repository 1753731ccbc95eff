"""Kokoro's voices, from the raw float32 files of their npm package into one .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from assistant.packages import ModelError, opened

_SHAPE = (510, 1, 256)
"""Style vectors by the number of phonemes, as Kokoro's model takes them."""
_BYTES = 510 * 256 * 4
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_voices(archive: Path, members: Mapping[str, str], out: IO[bytes]) -> None:
    """Write the .npz of `members` (voice -> member of `archive`), the same bytes every time."""
    # Written by hand, since numpy pads this header differently from version to version.
    description = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {_SHAPE}, }}"
    header = b"\x93NUMPY\x01\x00v\x00" + description.encode().ljust(117) + b"\n"
    with opened(archive) as read, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as npz:
        for voice, name in members.items():
            with read(name) as stream:
                raw = stream.read()
            if len(raw) != _BYTES:
                raise ModelError(f"{name}: expected {_BYTES} bytes, got {len(raw)}")
            entry = zipfile.ZipInfo(f"{voice}.npy", _EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            npz.writestr(entry, header + raw)
