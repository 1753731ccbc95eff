"""Recordings of any format and rate, of any length, as the recogniser takes them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from speech.interfaces import RATE, Audio, SpeechError


def read(source: Path | BinaryIO) -> Audio:
    """All of a recording as mono, shape (n,) at RATE.

    Raises SpeechError for what libsndfile cannot read, OSError for a file that is not there."""
    with source.open("rb") if isinstance(source, Path) else source as stream:
        try:
            with soundfile.SoundFile(stream) as recording:
                return _mono(recording)
        except soundfile.SoundFileError as error:
            name = source.name if isinstance(source, Path) else "the recording"
            raise SpeechError(f"{name}: expected WAV, FLAC, Ogg or MP3 audio: {error}") from error


def _mono(recording: soundfile.SoundFile) -> Audio:
    # In blocks: an hour of 48 kHz stereo would not fit into memory twice.
    resampler = soxr.ResampleStream(recording.samplerate, RATE, 1, dtype="float32")
    blocks = recording.blocks(10 * recording.samplerate, dtype="float32", always_2d=True)
    parts = [resampler.resample_chunk(block.mean(axis=1)) for block in blocks]
    parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts)
