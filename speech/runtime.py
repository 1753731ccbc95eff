"""One way to open an ONNX model on the processor, for every stage that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort

from speech.interfaces import SpeechError

if TYPE_CHECKING:
    from pathlib import Path


def onnx_session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """A CPU session for `model`, a file or its content. Raises SpeechError where it does
    not load."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between calls would take the cores from the language model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own unnamed classes
        named = f"{len(model)} bytes" if isinstance(model, bytes) else model
        msg = f"expected an ONNX model, got {named}: {error}"
        raise SpeechError(msg) from error
