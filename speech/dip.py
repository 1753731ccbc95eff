"""Where a voice falls silent, by its loudness: voice activity notices some 100 ms later.

A model of voice activity waits to be sure, and sees a frame as speech while a room still rings.
A decode that starts with the dip has the words when the pause is noticed. Pure.
"""

from __future__ import annotations

import numpy as np

from speech.interfaces import Audio

_FALL = 25.0
"""dB under the recent peak from which speech is no longer heard; under noise nothing falls so
deep, and voice activity alone decides."""
_LASTING = 2
"""Quiet frames that make a dip: within a word, a stop consonant is as quiet for one."""
_DECAY = 0.3
"""dB by which the peak fades with each frame, so that one shout does not deafen it."""
_FLOOR = 1e-10


class Dips:
    """One call's loudness, a frame at a time."""

    def __init__(self) -> None:
        self.audible_to = 0
        """Sample at which the latest audible frame ended."""
        self._frames = 0
        self._peak = -100.0
        self._at = 0

    def push(self, frame: Audio) -> bool:
        """The next frame, of any length; True when a dip begins with it."""
        self._at += len(frame)
        level = 10 * float(np.log10(np.dot(frame, frame) / len(frame) + _FLOOR))
        self._peak = max(level, self._peak - _DECAY)
        if level < self._peak - _FALL:
            self._frames += 1
        else:
            self._frames, self.audible_to = 0, self._at
        return self._frames == _LASTING

    @property
    def quiet(self) -> bool:
        """Whether a dip goes on."""
        return self._frames >= _LASTING
