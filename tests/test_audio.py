"""Resampling, G.711, framing and the ring of recent audio."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.audio import (
    AudioBuffer,
    Framer,
    Resampler,
    alaw_decode,
    alaw_encode,
    pcm16_from_bytes,
    to_float,
    to_pcm16,
    ulaw_decode,
    ulaw_encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from speech.interfaces import Audio, Pcm

EVERY_SAMPLE = np.arange(-32_768, 32_768).astype(np.int16)
EVERY_CODE = bytes(range(256))


def tone(rate: int, hertz: float, seconds: float = 1.0) -> Audio:
    at = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def resample(samples: Audio, in_rate: int, out_rate: int, step: int) -> Audio:
    resampler = Resampler(in_rate, out_rate)
    parts = [resampler.push(samples[i : i + step]) for i in range(0, len(samples), step)]
    return np.concatenate([*parts, resampler.flush()])


@pytest.mark.parametrize(
    ("in_rate", "out_rate"),
    [(24_000, 16_000), (8_000, 16_000), (16_000, 24_000), (22_050, 24_000), (24_000, 8_000)],
)
def test_a_tone_keeps_its_phase_and_height(in_rate: int, out_rate: int) -> None:
    out = resample(tone(in_rate, 1000), in_rate, out_rate, step=in_rate // 50)
    assert len(out) == out_rate
    inner = slice(out_rate // 10, -out_rate // 10)
    assert np.abs(out - tone(out_rate, 1000))[inner].max() < 1e-3


def test_what_cannot_be_represented_is_taken_away() -> None:
    out = resample(tone(24_000, 9_500), 24_000, 16_000, step=480)
    assert 20 * np.log10(np.abs(out[2000:-2000]).max() / 0.5) < -60


@given(st.lists(st.integers(0, 700), min_size=1, max_size=12))
def test_resampling_does_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, sum(cuts)).astype(np.float32)
    whole = resample(samples, 24_000, 16_000, step=max(1, len(samples)))
    resampler = Resampler(24_000, 16_000)
    edges = np.cumsum([0, *cuts])
    parts = [resampler.push(samples[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_allclose(np.concatenate([*parts, resampler.flush()]), whole, atol=1e-6)


def test_resampling_holds_back_little() -> None:
    resampler = Resampler(8_000, 16_000)
    made = sum(len(resampler.push(tone(8_000, 400, 0.02))) for _ in range(50))
    assert 16_000 - made <= 0.005 * 16_000


def test_a_flushed_resampler_starts_anew() -> None:
    resampler = Resampler(24_000, 16_000)
    first = np.concatenate([resampler.push(tone(24_000, 500)), resampler.flush()])
    second = np.concatenate([resampler.push(tone(24_000, 500)), resampler.flush()])
    np.testing.assert_array_equal(first, second)


def test_equal_rates_pass_through() -> None:
    samples = tone(16_000, 440, 0.1)
    np.testing.assert_array_equal(resample(samples, 16_000, 16_000, step=160), samples)


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, -1), (16_001, 16_000)])
def test_impossible_rates_are_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {rates[0]} and {rates[1]}"):
        Resampler(*rates)


def test_ulaw_matches_published_codes() -> None:
    samples = np.array([0, 8, -8, 132, -132, 1000, -1000, 32_767, -32_768], np.int16)
    assert ulaw_encode(samples).hex() == "fffe7eef6fce4e8000"
    assert ulaw_decode(b"\x00\x80\xff\x7f").tolist() == [-32_124, 32_124, 0, 0]


def test_alaw_matches_published_codes() -> None:
    samples = np.array([0, 16, -1, -16, 1000, -1000, 32_767, -32_768], np.int16)
    assert alaw_encode(samples).hex() == "d5d45555fa7aaa2a"
    assert alaw_decode(b"\x2a\xaa\xd5\x55").tolist() == [-32_256, 32_256, 8, -8]


@pytest.mark.parametrize(
    ("encode", "decode"), [(ulaw_encode, ulaw_decode), (alaw_encode, alaw_decode)]
)
def test_g711_is_close_and_stable(
    encode: Callable[[Pcm], bytes], decode: Callable[[bytes], Pcm]
) -> None:
    heard = decode(encode(EVERY_SAMPLE)).astype(int)
    error = np.abs(heard - EVERY_SAMPLE)
    assert (error <= np.maximum(16, np.abs(EVERY_SAMPLE.astype(int)) / 16 + 8)).all()
    assert (decode(encode(decode(EVERY_CODE))) == decode(EVERY_CODE)).all()


def test_pcm_survives_float_and_back() -> None:
    assert (to_pcm16(to_float(EVERY_SAMPLE)) == EVERY_SAMPLE).all()
    assert to_pcm16(np.array([2.0, -2.0], np.float32)).tolist() == [32_767, -32_768]


def test_half_a_sample_is_refused() -> None:
    assert pcm16_from_bytes(b"\x01\x00\xff\xff").tolist() == [1, -1]
    with pytest.raises(ValueError, match="got 3 bytes"):
        pcm16_from_bytes(b"\x01\x00\xff")


@given(st.lists(st.integers(0, 70), max_size=20))
def test_frames_are_the_stream_cut_evenly(cuts: list[int]) -> None:
    stream = np.arange(sum(cuts), dtype=np.float32)
    framer, frames, at = Framer(32), [], 0
    for cut in cuts:
        frames += framer.push(stream[at : at + cut])
        at += cut
    assert len(frames) == len(stream) // 32
    assert all(len(frame) == 32 for frame in frames)
    if frames:
        np.testing.assert_array_equal(np.concatenate(frames), stream[: len(frames) * 32])


@given(st.lists(st.integers(0, 40_000), max_size=8), st.data())
def test_buffer_gives_back_what_was_put_in(sizes: list[int], data: st.DataObject) -> None:
    buffer = AudioBuffer(seconds=2.0)
    stream = np.arange(sum(sizes), dtype=np.float32)
    at = 0
    for size in sizes:
        buffer.append(stream[at : at + size])
        at += size
    assert buffer.end == len(stream)
    assert buffer.begin == max(0, len(stream) - 32_000)
    start = data.draw(st.integers(0, buffer.end))
    end = data.draw(st.integers(start, buffer.end))
    np.testing.assert_array_equal(buffer.slice(start, end), stream[max(start, buffer.begin) : end])


def test_buffer_drops_and_refuses_the_future() -> None:
    buffer = AudioBuffer(seconds=1.0)
    buffer.append(np.ones(100, np.float32))
    buffer.drop_before(60)
    assert (buffer.begin, len(buffer.slice(0, 100))) == (60, 40)
    assert len(buffer.slice(10, 50)) == 0
    with pytest.raises(ValueError, match=r"end <= 100, got \[0, 101\)"):
        buffer.slice(0, 101)
