"""Piper that says a sentence the same way each time: `tts.engine` of servers in processes of their
own, whose replies a test listens to."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from speech.tts.piper import PiperSynthesizer


class Piper(PiperSynthesizer):
    def __init__(self, path: Path, threads: int = 1) -> None:
        onnxruntime.set_seed(0)
        super().__init__(path, threads)
