"""What both synthesisers do with the model's output: word ends, and silence cut to measure."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from speech.audio import to_pcm16
from speech.interfaces import Audio, Mark, Speech

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speech.tts.text import SpokenWord

_HEAD_MS = 30
_TAIL_MS = 120
_STEP_MS = 5
_AUDIBLE = 0.01
"""Loudness, as a part of the loudest 5 ms, from which it counts as sound."""


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a Protocol Buffers message, content under 16,384 bytes."""
    tag, size = number << 3 | 2, len(content)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([tag]) + length + content


def with_output(model: bytes, tensor: str) -> bytes:
    """The ONNX `model` with one of its inner tensors as a further output.

    Concatenated Protocol Buffers messages merge, so adding an output to the graph is appending a
    model that has nothing but ModelProto.graph (7) . output (12) . name (1)."""
    return model + field(7, field(12, field(1, tensor.encode())))


def word_ends(alone: Sequence[str], spoken: Sequence[str], samples: Sequence[float]) -> list[float]:
    """Where each word ends, in samples.

    `alone` holds every word's phonemes as it is said by itself; `spoken` the phonemes really said
    (a word may have lost or changed some, or grown together with its neighbour), and `samples`
    how long each of those lasts. The two are matched like two versions of a text."""
    expected = [phoneme for word in alone for phoneme in word]
    blocks = SequenceMatcher(a=expected, b=spoken, autojunk=False).get_matching_blocks()
    anchors = {(0, 0), (len(expected), len(spoken))}
    for block in blocks:
        anchors |= {(block.a, block.b), (block.a + block.size, block.b + block.size)}
    at, to = zip(*sorted(anchors), strict=True)
    # The space behind a word keeps neighbours apart in the matching; it is not the word.
    ends = np.cumsum([len(word) for word in alone]) - [word.endswith(" ") for word in alone]
    elapsed = np.concatenate(([0.0], np.cumsum(samples)))
    places = np.interp(ends, at, to)
    found: list[float] = np.interp(places, np.arange(len(elapsed)), elapsed).tolist()
    return found


def shaped(
    audio: Audio,
    rate: int,
    words: Sequence[SpokenWord],
    ends: Sequence[float],
    *,
    gain: float = 1,
    first: bool = True,
    last: bool = True,
) -> Speech:
    """`audio`, shape (n,) at `rate` Hz, as Speech with at most 30 ms of silence in front, each of
    which the caller would wait for, where it is the `first` of a sentence, and 120 ms behind where
    it is its `last`; `ends` are the words' ends in samples."""
    step = rate * _STEP_MS // 1000
    loud = np.abs(audio[: len(audio) // step * step]).reshape(-1, step).max(axis=1, initial=0)
    sound = np.flatnonzero(loud > _AUDIBLE * loud.max(initial=1e-9))
    onset, offset = (int(sound[0]), int(sound[-1]) + 1) if sound.size else (0, 0)
    head = max(0, onset * step - rate * _HEAD_MS // 1000) if first else 0
    tail = min(len(audio), offset * step + rate * _TAIL_MS // 1000) if last else len(audio)
    pcm = to_pcm16(audio[head:tail] * gain)
    made: list[Mark] = []
    for word, end in zip(words, ends, strict=True):
        before = made[-1].samples if made else 0
        made.append(Mark(word.end, max(before, min(len(pcm), round(end) - head))))
    return Speech(pcm, tuple(made))
