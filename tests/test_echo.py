"""The assistant's own voice comes back through the microphone; a caller may speak over it.

A stand-in for voice activity calls loud what is over -55 dBFS once the echo is taken away; what
is loud and not explained is taken for speech, as it is with the real models in tests/real."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from speech.echo import ECHO, LATE, EchoGate
from speech.farend import FarEnd
from speech.interfaces import FRAME, RATE, Audio

LEAD = RATE // 4
"""What is sent ahead of its playback."""
WRITE = RATE // 25
BEGIN = RATE // 4
"""When the reply begins."""


@cache
def voice(seconds: float, seed: int, pitch: float = 120.0) -> Audio:
    """Speech-like, -20 dBFS: gliding harmonics or hiss in syllables of two to six a second, some of
    them silent."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    out = np.zeros(count)
    at = 0
    while at < count:
        length = min(int(rng.uniform(0.15, 0.4) * RATE), count - at)
        time = np.arange(length) / RATE
        if rng.random() < 0.25:
            sound = rng.normal(0, 1, length)
        else:
            phase = 2 * np.pi * np.cumsum(pitch * rng.uniform(0.8, 1.3) * (1 + time)) / RATE
            formants = rng.uniform([300, 900, 2200], [800, 2200, 3400])
            order = np.arange(1, 25)
            near = np.abs(order[:, None] * pitch - formants) / 250
            sound = (np.exp(-near).sum(axis=1) + 0.05) @ np.sin(order[:, None] * phase)
        if at == 0 or rng.random() > 0.15:
            out[at : at + length] = sound / np.std(sound) * np.sin(np.pi * time * RATE / length)
        at += length
    return (out * 0.1 / np.std(out)).astype(np.float32)


@dataclass(frozen=True)
class Room:
    """Between loudspeaker and microphone."""

    delay: float = 0.1
    decibels: float = -12.0
    """Of the echo, against the reply."""
    reverberation: float = 0.2
    """Seconds until it is 60 dB weaker."""
    telephone: bool = False
    clips: bool = False
    drift: float = 0.0
    """Of the loudspeaker's clock, in parts per million."""
    noise: float = -30.0
    """dB, against the echo."""

    def echo(self, reply: Audio, seed: int) -> Audio:
        """What of `reply` the microphone takes, with 0.3 s after its end."""
        rng = np.random.default_rng(seed)
        sound = np.concatenate([np.zeros(int(self.delay * RATE)), reply, np.zeros(int(0.3 * RATE))])
        steps = np.arange(len(sound))
        sound = np.interp(steps * (1 + self.drift * 1e-6), steps, sound)
        if self.clips:
            sound = np.clip(sound, -0.6 * np.abs(sound).max(), 0.6 * np.abs(sound).max())
        count = len(sound)
        taps = np.arange(max(1, int(self.reverberation * RATE)))
        response = rng.normal(0, 1, len(taps)) * 10 ** (-3 * taps / len(taps))
        response[0] = 1.4 * np.linalg.norm(response)  # 3 dB over all reflections together
        size = count + len(taps)
        spectrum = np.fft.rfft(sound, size) * np.fft.rfft(response, size)
        if self.telephone:
            frequency = np.fft.rfftfreq(size, 1 / RATE)
            spectrum[(frequency < 300) | (frequency > 3400)] = 0
        sound = np.fft.irfft(spectrum, size)[:count]
        sound *= 10 ** (self.decibels / 20) * np.std(reply) / np.std(sound)
        return sound + rng.normal(0, 10 ** (self.noise / 20) * np.std(sound), count)


class Call:
    """One call's microphone and loudspeaker, whose clock is `wrong` seconds early, and jitters."""

    def __init__(self, wrong: float = 0.0, seed: int = 0) -> None:
        self.far = FarEnd()
        self.gate = EchoGate(self.far)
        self.echo: list[float] = []
        self.clean: list[Audio] = []
        self._wrong = int(wrong * RATE)
        self._rng = np.random.default_rng(seed)

    def run(self, mic: Audio, *replies: tuple[int, Audio]) -> Call:
        """The microphone takes `mic`; each reply begins to play at its sample."""
        writes = [
            (begin + at - self._wrong, reply[at : at + WRITE])
            for begin, reply in replies
            for at in range(0, len(reply), WRITE)
        ]
        for at in range(0, len(mic) - FRAME + 1, FRAME):
            while writes and writes[0][0] <= at + LEAD:
                begin, pcm = writes.pop(0)
                self.far.play(pcm, begin + int(self._rng.uniform(-0.02, 0.02) * RATE))
            got = self.gate.push(mic[at : at + FRAME].astype(np.float32), at)
            self.echo.append(got.echo)
            self.clean.append(got.audio)
        return self

    @property
    def taken(self) -> list[bool]:
        """For each frame: is it taken for speech?"""
        return [
            share < ECHO and bool(np.mean(audio**2) > 10**-5.5)
            for share, audio in zip(self.echo, self.clean, strict=True)
        ]

    def onset(self, after: int = 0) -> float:
        """Seconds of the first of three frames in a row taken for speech, from sample `after`;
        infinite where there are none."""
        taken = self.taken
        for frame in range(after // FRAME, len(taken) - 2):
            if all(taken[frame : frame + 3]):
                return max(0.0, (frame * FRAME - after) / RATE)
        return float("inf")


def echoed(room: Room, seconds: float = 2.0, seed: int = 0) -> tuple[Audio, Audio]:
    """A reply, and the microphone that hears it from BEGIN on."""
    reply = voice(seconds, seed, pitch=110)
    echo = room.echo(reply, seed)
    before = np.random.default_rng(seed).normal(0, 1e-4, BEGIN)
    return reply, np.concatenate([before, echo]).astype(np.float32)


def over(mic: Audio, caller: Audio, at: int) -> Audio:
    mixed = mic.copy()
    mixed[at : at + len(caller)] += caller[: len(mixed) - at]
    return mixed


@pytest.mark.parametrize("delay", [0.03, 0.08, 0.15, 0.25])
@pytest.mark.parametrize("decibels", [-6.0, -12.0, -20.0])
def test_echo_alone_is_no_speech(delay: float, decibels: float) -> None:
    reply, mic = echoed(Room(delay, decibels), seed=int(delay * 100) % 3)
    call = Call().run(mic, (BEGIN, reply))
    assert call.onset() == float("inf")
    assert np.mean(call.taken) < 0.03


@pytest.mark.parametrize(
    ("room", "wrong"),
    [
        (Room(reverberation=0), 0.0),
        (Room(reverberation=0.3), 0.0),
        (Room(telephone=True), 0.0),
        (Room(clips=True, telephone=True), 0.1),
        (Room(drift=100), 0.0),
        (Room(drift=-100, reverberation=0.3), 0.0),
        (Room(noise=-15), 0.0),
        (Room(delay=0.03), 0.25),
        (Room(delay=0.25), 0.25),
    ],
)
def test_nor_is_it_in_any_room_or_on_any_clock(room: Room, wrong: float) -> None:
    reply, mic = echoed(room, seed=7)
    call = Call(wrong, seed=3).run(mic, (BEGIN, reply))
    assert call.onset() == float("inf")
    assert np.mean(call.taken) < 0.03


@pytest.mark.parametrize(("louder", "limit"), [(0.0, 0.2), (6.0, 0.12), (12.0, 0.07)])
def test_a_caller_over_the_echo_is_heard_at_once(louder: float, limit: float) -> None:
    delays = []
    for seed, room in enumerate(
        [Room(), Room(0.25, -6), Room(0.03, -20, 0.3), Room(0.15, telephone=True), Room(drift=100)]
    ):
        reply, mic = echoed(room, seed=seed % 3)
        begin = BEGIN + int((0.7 + 0.1 * seed) * RATE)
        gain = np.std(mic) / 0.1 * 10 ** (louder / 20)
        mixed = over(mic, voice(1.0, 10 + seed, pitch=190) * np.float32(gain), begin)
        delays.append(Call(seed=seed).run(mixed, (BEGIN, reply)).onset(begin))
    assert max(delays) < limit


def test_what_is_left_of_the_mixture_is_mostly_the_caller() -> None:
    reply, mic = echoed(Room(), seed=1)
    begin = BEGIN + int(0.8 * RATE)
    caller = voice(1.0, 11, pitch=190) * np.float32(np.std(mic) / 0.1)
    call = Call().run(over(mic, caller, begin), (BEGIN, reply))
    clean = np.concatenate(call.clean)[begin + LATE : begin + LATE + len(caller)]
    alone = caller[: len(clean)]
    echo = mic[begin : begin + len(clean)]
    left = 10 * np.log10(np.mean((clean - alone) ** 2) / np.mean(echo**2))
    assert left < -6


def test_the_caller_alone_passes_untouched_and_late() -> None:
    caller = voice(1.0, 11)
    call = Call().run(caller)
    whole = np.concatenate(call.clean)
    assert np.array_equal(whole[LATE:], caller[: len(whole) - LATE])
    assert call.echo == [0.0] * len(call.echo)


def test_a_caller_with_headphones_is_heard_while_the_reply_plays() -> None:
    reply = voice(3.0, 0, pitch=110)
    quiet = np.random.default_rng(0).normal(0, 1e-4, 3 * RATE).astype(np.float32)
    first, second = RATE // 2, 2 * RATE
    mic = over(over(quiet, voice(0.8, 11, pitch=190), first), voice(0.8, 12, pitch=190), second)
    call = Call().run(mic, (0, reply))
    assert call.onset(first) < 0.3  # an echo might yet be found
    assert call.onset(second) < 0.07


def test_silence_is_nothing() -> None:
    call = Call().run(np.zeros(RATE, np.float32), (0, np.zeros(RATE, np.float32)))
    assert call.onset() == float("inf")
    assert not np.concatenate(call.clean).any()


def test_the_next_reply_may_lag_otherwise() -> None:
    reply, mic = echoed(Room(), seconds=1.5, seed=1)
    _, later = echoed(Room(delay=0.13), seconds=1.5, seed=1)
    whole = np.concatenate([mic, later])
    call = Call(seed=2).run(whole, (BEGIN, reply), (len(mic) + BEGIN, reply))
    assert call.onset() == float("inf")


def test_a_louder_loudspeaker_is_learnt_within_a_second() -> None:
    reply, mic = echoed(Room(decibels=-18), seconds=4.0, seed=1)
    louder = mic.copy()
    louder[2 * RATE :] *= 4
    taken = Call().run(louder, (BEGIN, reply)).taken
    assert np.mean(taken[3 * RATE // FRAME :]) < 0.03


def test_a_reply_that_was_cut_explains_nothing_more() -> None:
    reply = voice(2.0, 0)
    far = FarEnd()
    far.play(reply, 1000)
    far.cut(9000)
    assert np.array_equal(far.slice(1000, 9000), reply[:8000])
    assert not far.slice(9000, 30_000).any()
    far.cut(20_000)
    assert far.end == 9000


def test_writes_are_seamless_within_the_jitter_only() -> None:
    far = FarEnd()
    ones = np.ones(640, np.float32)
    for at in (1000, 1900, 2000):  # 260 late, then 280 early
        far.play(ones, at)
    assert (far.began, far.end) == (1000, 2920)
    assert far.slice(1000, 2920).all()
    far.play(ones, 5000)
    assert (far.began, far.end) == (5000, 5640)
    assert not far.slice(2920, 5000).any()
    far.play(ones, 4500)
    assert (far.began, far.end) == (4500, 5140)
    assert far.slice(4500, 5140).all()
    far.cut(5000)
    far.play(ones, 5010)
    assert (far.began, far.end) == (5010, 5650)
    assert not far.slice(5000, 5010).any()


def test_memory_does_not_grow_with_the_call() -> None:
    far = FarEnd()
    held = far._ring.nbytes
    far.play(np.ones(10 * RATE, np.float32), 0)
    far.play(np.ones(RATE, np.float32), 10**9)
    assert far._ring.nbytes == held <= 4 * 4 * RATE
    assert not far.slice(10**9 - 8 * RATE, 10**9).any()
    assert far.slice(10**9, 10**9 + RATE).all()
