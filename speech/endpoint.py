"""Smart Turn v3.2: has the caller finished, judged by how it sounds?

The model is pipecat-ai's (BSD-2); it reads the last 8 s of the caller's audio. Its own last layers
were made for audio with a stretch of silence at the end. Ours, fitted by
scripts/fit_endpointing.py on what its inner layer makes of audio that ends where the speech does,
knows sooner and better (docs/endpointing.md has the figures).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np

from speech.features import log_mel
from speech.interfaces import RATE, Audio, SpeechError
from speech.runtime import onnx_session
from speech.tts.shape import with_output

_SAMPLES = 8 * RATE
_LAYER = "gelu_6"
"""The 256 values behind the pooled audio, as the v3.2 export names them."""
_MODEL = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
"""sha256 of the export that the readout was fitted on; any other one answers for itself."""


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
        try:
            model = path.read_bytes()
        except OSError as error:
            msg = f"expected the Smart Turn model: {error}"
            raise SpeechError(msg) from error
        self._known = hashlib.sha256(model).hexdigest() == _MODEL
        self._session = onnx_session(with_output(model, _LAYER) if self._known else model, threads)

    def completeness(self, audio: Audio) -> float:
        """P(the turn is over) after `audio`, shape (n,) at RATE, n > 0, which should end where
        the speech does. Raises SpeechError."""
        own, layer = self.layers(audio)
        return own if layer is None else completeness(layer)

    def layers(self, audio: Audio) -> tuple[float, Audio | None]:
        """The model's own P(the turn is over), and its inner layer, shape (256,), where this is
        the export that we know. Raises SpeechError."""
        if audio.ndim != 1 or not audio.size:
            msg = f"expected audio of shape (n,) with n > 0, got {audio.shape}"
            raise SpeechError(msg)
        output, *inner = self._session.run(None, {"input_features": features(audio)[None]})
        return float(output[0, 0]), inner[0].reshape(-1) if self._known else None


def completeness(layer: Audio) -> float:
    """P(the turn is over) by our readout of the inner layer, shape (256,)."""
    weights = _readout()
    return float(1 / (1 + np.exp(-(layer @ weights[1:] + weights[0]))))


@cache
def _readout() -> Audio:
    """Shape (257,): the constant, then a weight a value."""
    return np.array(json.loads(Path(__file__).with_name("endpoint.json").read_text()), np.float32)
