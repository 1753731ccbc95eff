"""Silero VAD v6 through onnxruntime: is the caller speaking in these 32 ms?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speech.interfaces import FRAME, RATE, Audio, SpeechError
from speech.runtime import onnx_session

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime as ort

_CONTEXT = 64
"""Samples of the frame before that the model wants in front of each frame (silero-vad 6)."""


class SileroVad:
    """One loaded model, shared by every call; a stream holds a call's own state."""

    def __init__(self, path: Path) -> None:
        self._session = onnx_session(path, threads=1)

    def open(self) -> SileroStream:
        """A stream for a new call."""
        return SileroStream(self._session)


class SileroStream:
    """Voice activity of one call. Not for two threads at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._input = np.zeros((1, _CONTEXT + FRAME), np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)
        self._rate = np.array(RATE, np.int64)

    def probability(self, frame: Audio) -> float:
        """P(speech) of one frame of shape (FRAME,). Raises SpeechError on any other shape."""
        if frame.shape != (FRAME,):
            msg = f"expected a frame of shape ({FRAME},), got {frame.shape}"
            raise SpeechError(msg)
        self._input[0, :_CONTEXT] = self._input[0, FRAME:]
        self._input[0, _CONTEXT:] = frame
        feed = {"input": self._input, "state": self._state, "sr": self._rate}
        output, self._state = self._session.run(None, feed)
        return float(output[0, 0])
