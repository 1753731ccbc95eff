"""Smart Turn v3.2: has the caller finished, judged by how it sounds?

The model is pipecat-ai's (BSD-2); it reads the last 8 s of the caller's audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speech.features import log_mel
from speech.interfaces import RATE, Audio, SpeechError
from speech.runtime import onnx_session

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLES = 8 * RATE


def features(audio: Audio) -> Audio:
    """The model's input, shape (80, 800), from the last 8 s of `audio`, shape (n,).

    Shorter audio is set at the end of silence, because that is where the model looks for the
    end of the turn; the whole is then brought to mean 0 and variance 1."""
    window = np.zeros(_SAMPLES, np.float32)
    tail = audio[-_SAMPLES:]
    window[_SAMPLES - len(tail) :] = tail
    window -= window.mean()
    window /= np.sqrt(window.var() + 1e-7)
    return log_mel(window)


class SmartTurn:
    """One loaded model, shared by every call."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = onnx_session(path, threads)

    def completeness(self, audio: Audio) -> float:
        """P(the turn is over) after `audio`, shape (n,) at RATE, n > 0. Raises SpeechError."""
        if audio.ndim != 1 or not audio.size:
            msg = f"expected audio of shape (n,) with n > 0, got {audio.shape}"
            raise SpeechError(msg)
        (output,) = self._session.run(None, {"input_features": features(audio)[None]})
        return float(output[0, 0])
