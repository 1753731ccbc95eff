"""Audio on its way in and out of a call: resampling, G.711, framing, the caller's recent past.

Everything here runs for every 20 to 32 ms of every call, so it stays in a few microseconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from speech.interfaces import RATE, Audio, Pcm

if TYPE_CHECKING:
    from numpy.typing import NDArray

PCM_SCALE = 32_768.0


def pcm16_from_bytes(data: bytes) -> Pcm:
    """Little-endian 16-bit samples, as the machines this runs on hold them, shape
    (len(data) / 2,). Raises ValueError on half a sample."""
    if len(data) % 2:
        msg = f"expected whole 16-bit samples, got {len(data)} bytes"
        raise ValueError(msg)
    return np.frombuffer(data, np.int16)


def to_float(pcm: Pcm) -> Audio:
    """16-bit samples of any shape as float32 in [-1, 1)."""
    scaled: Audio = np.multiply(pcm, np.float32(1 / PCM_SCALE), dtype=np.float32)
    return scaled


def to_pcm16(audio: Audio) -> Pcm:
    """Float samples of any shape as 16 bit; what lies outside [-1, 1) is clipped."""
    pcm: Pcm = np.clip(np.rint(audio * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1).astype(np.int16)
    return pcm


def _ulaw_tables() -> tuple[Pcm, NDArray[np.uint8]]:
    code = ~np.arange(256) & 0xFF
    level = ((((code & 0x0F) << 3) + 132) << ((code & 0x70) >> 4)) - 132
    decode = np.where(code & 0x80, -level, level).astype(np.int16)

    value = np.arange(65_536).astype(np.uint16).view(np.int16).astype(np.int32)
    # An arithmetic shift: ITU-T G.711 quantises 14 bits, and -1 >> 2 is still -1.
    short = value >> 2
    biased = np.minimum(np.abs(short), 8158) + 33
    exponent = np.frexp(biased.astype(np.float64))[1] - 6
    encoded = (exponent << 4) | ((biased >> (exponent + 1)) & 0x0F)
    return decode, (~(encoded | np.where(short < 0, 0x80, 0)) & 0xFF).astype(np.uint8)


def _alaw_tables() -> tuple[Pcm, NDArray[np.uint8]]:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    level = np.where(exponent == 0, mantissa + 8, (mantissa + 264) << np.maximum(exponent - 1, 0))
    decode = np.where(code & 0x80, level, -level).astype(np.int16)

    value = np.arange(65_536).astype(np.uint16).view(np.int16).astype(np.int32)
    # 13 bits, negative values by their ones' complement (ITU-T G.711, table 1).
    short = value >> 3
    magnitude = np.where(short < 0, ~short, short)
    segment = np.maximum(np.frexp(magnitude.astype(np.float64))[1] - 5, 0)
    bits = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    return decode, (bits ^ np.where(short < 0, 0x55, 0xD5)).astype(np.uint8)


_ULAW_DECODE, _ULAW_ENCODE = _ulaw_tables()
_ALAW_DECODE, _ALAW_ENCODE = _alaw_tables()


def ulaw_decode(data: bytes) -> Pcm:
    """ITU-T G.711 mu-law, a byte a sample, as 16-bit samples, shape (len(data),)."""
    return _ULAW_DECODE[np.frombuffer(data, np.uint8)]


def ulaw_encode(pcm: Pcm) -> bytes:
    """16-bit samples, shape (n,), as n bytes of ITU-T G.711 mu-law."""
    return _ULAW_ENCODE[pcm.view(np.uint16)].tobytes()


def alaw_decode(data: bytes) -> Pcm:
    """ITU-T G.711 A-law, a byte a sample, as 16-bit samples, shape (len(data),)."""
    return _ALAW_DECODE[np.frombuffer(data, np.uint8)]


def alaw_encode(pcm: Pcm) -> bytes:
    """16-bit samples, shape (n,), as n bytes of ITU-T G.711 A-law."""
    return _ALAW_ENCODE[pcm.view(np.uint16)].tobytes()


DECODE = {
    "audio/pcm": pcm16_from_bytes,
    "audio/pcmu": ulaw_decode,
    "audio/pcma": alaw_decode,
}
"""By the Realtime API's names of the formats."""


class Resampler:
    """One mono stream from `in_rate` to `out_rate` Hz, without a seam between pushes.

    A Kaiser-windowed sinc (Oppenheim and Schafer, section 7.5), laid out as one matrix that turns
    a block of input into a block of output. soxr's stream, made for files, holds back 21 ms on
    average from 24 kHz and 64 ms from 8 kHz, unevenly; this holds back 1.5 and 3 ms, and a block.

    Output sample k belongs to the time of input sample k * in_rate / out_rate."""

    _ZEROS = 24
    """Zero crossings of the sinc on each side; with _BETA: 70 dB beyond the transition."""
    _BETA = 7.0
    _CUTOFF = 0.94
    """Half-amplitude point, as a part of the lower rate's Nyquist frequency."""
    _BLOCK = 16
    """Least number of input samples in a block: few enough to add at most 2 ms."""

    def __init__(self, in_rate: int, out_rate: int) -> None:
        divisor = math.gcd(in_rate, out_rate)
        if in_rate <= 0 or out_rate <= 0 or max(in_rate, out_rate) > 1000 * divisor:
            msg = f"expected two rates above 0 Hz with a ratio of integers up to 1000, \
got {in_rate} and {out_rate} Hz"
            raise ValueError(msg)
        self._up, self._down = out_rate // divisor, in_rate // divisor
        repeat = -(-self._BLOCK // self._down)
        self._block = repeat * self._down
        self._matrix, self._half = self._design(repeat * self._up)
        self._begin()

    def _begin(self) -> None:
        self._rest = np.zeros(self._half, np.float32)
        self._seen = self._made = 0

    def _design(self, outputs: int) -> tuple[Audio, int]:
        """The matrix, shape (block + 2 * half, outputs), and half, in input samples."""
        narrow = min(1.0, self._up / self._down)
        reach = self._ZEROS / narrow
        half = math.ceil(reach)
        inputs = np.arange(-half, self._block + half)[:, None]
        offset = inputs - np.arange(outputs)[None, :] * (self._down / self._up)
        window = np.i0(self._BETA * np.sqrt(np.clip(1 - (offset / reach) ** 2, 0, None)))
        taps = np.sinc(offset * narrow * self._CUTOFF) * window * (np.abs(offset) <= reach)
        return np.ascontiguousarray(taps / taps.sum(axis=0), dtype=np.float32), half

    def push(self, samples: Audio) -> Audio:
        """Shape (n,) in, about n * out_rate / in_rate samples out."""
        if self._up == self._down:
            return samples
        self._seen += len(samples)
        data = np.concatenate((self._rest, samples))
        span, block = len(self._matrix), self._block
        count = max(0, (len(data) - span) // block + 1)
        self._rest = data[count * block :]
        step = data.itemsize
        # Overlapping rows over the same memory: sliding_window_view costs more than the product.
        rows = np.ndarray((count, span), np.float32, data, 0, (block * step, step))
        out: Audio = (rows @ self._matrix).reshape(-1)
        self._made += len(out)
        return out

    def flush(self) -> Audio:
        """The rest of the stream; the next push starts a new one."""
        if self._up == self._down:
            return np.empty(0, np.float32)
        missing = -(-self._seen * self._up // self._down) - self._made
        tail = self.push(np.zeros(len(self._matrix) + self._block, np.float32))[:missing]
        self._begin()
        return tail


class Framer:
    """Cuts a stream into frames of `size` samples."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = np.empty(0, np.float32)

    def push(self, samples: Audio) -> list[Audio]:
        """The frames, each of shape (size,), that these samples complete."""
        size = self._size
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        whole = len(samples) - len(samples) % size
        self._rest = samples[whole:]
        return [samples[at : at + size] for at in range(0, whole, size)]


class AudioBuffer:
    """A caller's recent audio at RATE, addressed by sample number since the call began.

    Holds the last `seconds` at most; memory does not grow with the call."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._ring = np.zeros(int(seconds * RATE), np.float32)
        self._dropped = 0
        self.end = 0

    @property
    def begin(self) -> int:
        """The oldest sample still held."""
        return max(self._dropped, self.end - len(self._ring))

    def append(self, samples: Audio) -> None:
        """Add samples of shape (n,); the oldest give way."""
        ring, size = self._ring, len(self._ring)
        count = len(samples)
        if count > size:
            self.end += count - size
            samples, count = samples[-size:], size
        at = self.end % size
        first = min(count, size - at)
        ring[at : at + first] = samples[:first]
        if first < count:
            ring[: count - first] = samples[first:]
        self.end += count

    def slice(self, start: int, end: int) -> Audio:
        """A copy of [start, end), shape (end - start,).

        A start older than `begin` is moved to it, as that audio is gone: the caller compares
        lengths where it matters. Raises ValueError when end < start or end is not yet there."""
        if not start <= end <= self.end:
            msg = f"expected start <= end <= {self.end}, got [{start}, {end})"
            raise ValueError(msg)
        start = max(start, self.begin)
        if start >= end:
            return np.empty(0, np.float32)
        size = len(self._ring)
        at, stop = start % size, (end - 1) % size + 1
        if at < stop:
            return self._ring[at:stop].copy()
        return np.concatenate((self._ring[at:], self._ring[:stop]))

    def drop_before(self, sample: int) -> None:
        """Audio before `sample` will not be asked for again."""
        self._dropped = min(max(self._dropped, sample), self.end)
