"""Sounds of a room that are no speech to anybody, made from a seed. Shape (n,) at 24 kHz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from assistant.clients.wav import RATE
from speech.interfaces import Audio

_BABBLE = 3 * RATE


def cough(random: Generator) -> Audio:
    """Two or three bursts: an explosive onset, then a breathy tail."""
    bursts = []
    for _ in range(random.integers(2, 4)):
        time = np.arange(int(0.28 * RATE)) / RATE
        blast = np.exp(-time / 0.02) * (1 - np.exp(-time / 0.002))
        breath = 0.35 * np.exp(-np.square((time - 0.11) / 0.06))
        throat = _band(random.standard_normal(len(time)), 300, 4000)
        bursts += [throat * (blast + breath), np.zeros(int(random.uniform(0.08, 0.2) * RATE))]
    return np.concatenate(bursts).astype(np.float32)


def door(random: Generator) -> Audio:
    """A latch's click, a low thump, and what the room makes of it."""
    time = np.arange(int(0.9 * RATE)) / RATE
    thump = sum(
        np.sin(2 * np.pi * random.uniform(45, 120) * time)
        * np.exp(-time / random.uniform(0.05, 0.15))
        for _ in range(3)
    )
    latch = _band(random.standard_normal(len(time)), 1500, 6000) * np.exp(-time / 0.008)
    room = _band(random.standard_normal(len(time)), 80, 800) * np.exp(-time / 0.12)
    return (thump + 0.6 * np.roll(latch, -int(0.85 * RATE)) + 0.4 * room).astype(np.float32)


def keyboard(random: Generator) -> Audio:
    """Two seconds of typing: each key is heard going down and coming up."""
    typing = np.zeros(2 * RATE)
    at = 0.05
    while at < 1.8:
        for delay, level in ((0.0, 1.0), (random.uniform(0.06, 0.1), 0.5)):
            length = int(0.015 * RATE)
            click = _band(random.standard_normal(length), 1200, 8000)
            click *= level * np.exp(-np.arange(length) / (0.003 * RATE)) * random.uniform(0.6, 1.0)
            start = int((at + delay) * RATE)
            typing[start : start + length] += click
        at += random.uniform(0.09, 0.28)
    return typing.astype(np.float32)


def babble(random: Generator, voices: Sequence[Audio]) -> Audio:
    """Everybody in the room talks at once, for three seconds."""
    crowd = np.zeros(_BABBLE)
    for voice in voices:
        crowd += np.resize(np.roll(voice, random.integers(len(voice))), _BABBLE)
    edge = np.minimum(1, np.arange(_BABBLE) / (0.2 * RATE))
    return (crowd * edge * edge[::-1]).astype(np.float32)


def far(random: Generator, voice: Audio) -> Audio:
    """Somebody across the room: duller, and more of the room than of the voice."""
    time = np.arange(int(0.35 * RATE)) / RATE
    room = random.standard_normal(len(time)) * np.exp(-time / 0.08) * 0.05
    room[0] = 0.5
    size = len(voice) + len(room)
    heard = np.fft.irfft(np.fft.rfft(voice, size) * np.fft.rfft(room, size), size)
    return _band(heard, 100, 4000).astype(np.float32)


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    """Only what lies between these frequencies, in Hz."""
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(sound))
