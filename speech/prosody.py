"""stub until the fitted one lands"""

from __future__ import annotations
from dataclasses import dataclass
from speech.interfaces import Audio


@dataclass(frozen=True, slots=True)
class Prosody:
    fall: float = 0.0


def prosody(audio: Audio) -> Prosody | None:
    return None
