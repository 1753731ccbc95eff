"""The reply's own voice in the microphone, and the recorded callers over it, with real models."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

import assistant.clients.caller
from assistant.models import locate
from speech.asr import WhisperRecognizer
from speech.audio import Resampler, to_float
from speech.echo import ECHO, LATE, EchoGate
from speech.farend import FarEnd
from speech.interfaces import FRAME, RATE, Audio
from speech.tts.piper import PiperSynthesizer
from speech.vad import SileroVad

CALLERS = Path(assistant.clients.caller.__path__[0])
REPLY = "An old lighthouse stood by the sea, and every evening the keeper climbed its stairs to \
light the lamp for the ships that passed in the dark."
DECIBELS = -12.0
DELAYS = (0.03, 0.1, 0.25)
WRITE = RATE // 25
LEAD = RATE // 4
PAD = int(0.3 * RATE)


@cache
def reply() -> Audio:
    synth = PiperSynthesizer(locate("piper-joe"), threads=2)
    return at_rate(
        to_float(np.concatenate([speech.pcm for speech in synth.synthesize(REPLY)])),
        synth.sample_rate,
    )


@cache
def vad() -> SileroVad:
    return SileroVad(locate("silero-vad"))


def at_rate(audio: Audio, rate: int) -> Audio:
    resampler = Resampler(rate, RATE)
    return np.concatenate([resampler.push(audio), resampler.flush()])


def callers() -> list[tuple[str, Audio]]:
    """Fifteen of the recorded questions: what is said, and the audio."""
    lines = tomllib.loads((CALLERS / "lines.toml").read_text())
    names = [f"{name}-{voice}" for name in lines["questions"] for voice in lines["voices"]]
    said = []
    for name in names[::2]:
        audio, rate = soundfile.read(CALLERS / f"{name}.flac", dtype="float32")
        said.append((plain(lines["questions"][name.split("-")[0]]), at_rate(audio, rate)))
    return said


def plain(text: str) -> str:
    return re.sub(r"[^\w ]", "", text.lower())


def echo(delay: float, seed: int) -> Audio:
    """The reply through a small room of 200 ms, DECIBELS weaker, with a second of noise before."""
    rng = np.random.default_rng(seed)
    taps = np.arange(int(0.2 * RATE))
    response = rng.normal(0, 1, len(taps)) * 10 ** (-3 * taps / len(taps))
    response[0] = 1.4 * np.linalg.norm(response)
    sound = np.convolve(np.concatenate([np.zeros(int(delay * RATE)), reply()]), response)
    sound *= 10 ** (DECIBELS / 20) * np.std(reply()) / np.std(sound)
    sound = np.concatenate([np.zeros(RATE), sound])
    noise = rng.normal(0, 10 ** (-30 / 20) * np.std(sound), len(sound))
    return (sound + noise).astype(np.float32)


def through(mic: Audio, seed: int) -> tuple[list[bool], Audio]:
    """For each frame whether it is the caller's speech, and the cleaned audio. The reply begins
    to play at RATE, by a clock that jitters by 20 ms."""
    rng, far, stream = np.random.default_rng(seed), FarEnd(), vad().open()
    gate, sent = EchoGate(far), 0
    speech, clean = [], []
    for at in range(0, len(mic) - FRAME + 1, FRAME):
        while sent < len(reply()) and RATE + sent <= at + LEAD:
            jitter = int(rng.uniform(-0.02, 0.02) * RATE)
            far.play(reply()[sent : sent + WRITE], RATE + sent + jitter)
            sent += WRITE
        got = gate.push(mic[at : at + FRAME], at)
        speech.append(stream.probability(got.audio) >= 0.5 and got.echo < ECHO)
        clean.append(got.audio)
    return speech, np.concatenate(clean)


def onset(speech: list[bool], after: int = 0) -> float:
    """Seconds from sample `after` to three frames of speech in a row; infinite without."""
    for frame in range(after // FRAME, len(speech) - 2):
        if all(speech[frame : frame + 3]):
            return (frame * FRAME - after) / RATE
    return float("inf")


@pytest.mark.parametrize("delay", DELAYS)
def test_the_reply_does_not_interrupt_itself(delay: float) -> None:
    mic = echo(delay, seed=1)
    assert onset(through(mic, seed=1)[0]) == float("inf")
    raw = plain_vad(mic)
    assert sum(raw) > 0.3 * len(raw)  # there was something to defend against


def test_callers_over_the_reply_are_heard_in_time() -> None:
    late = []
    for number, (_, caller) in enumerate(callers()):
        mic, begin = echo(DELAYS[number % 3], seed=number), 2 * RATE + RATE * (number % 5) // 4
        as_loud = caller * np.float32(np.std(mic[RATE:]) / np.std(caller))
        speech, _ = through(over(mic, as_loud, begin), seed=number)
        late.append(onset(speech, begin) - onset(plain_vad(caller)))
    assert np.mean(np.array(late) <= 0.2) >= 0.9


def test_callers_over_the_reply_are_understood() -> None:
    whisper = WhisperRecognizer(locate("whisper-base"), threads=2)

    def heard(audio: Audio) -> str:
        return plain(whisper.transcribe(audio, language="en").text)

    lines, alone, cleaned = [], [], []
    for number, (line, caller) in enumerate(callers()):
        begin, end = 2 * RATE, 2 * RATE + len(caller) + PAD
        mic = over(echo(DELAYS[number % 3], seed=number), caller, begin)
        _, clean = through(mic, seed=number)
        lines.append(line)
        alone.append(heard(np.pad(caller, PAD)))
        cleaned.append(heard(clean[begin - PAD + LATE : end + LATE]))
    rates = [jiwer.wer(lines, texts) for texts in (alone, cleaned)]
    assert rates[1] <= rates[0] + 0.03, rates


def over(mic: Audio, caller: Audio, begin: int) -> Audio:
    mixed = mic.copy()
    mixed[begin : begin + len(caller)] += caller
    return mixed


def plain_vad(audio: Audio) -> list[bool]:
    stream = vad().open()
    return [
        stream.probability(audio[at : at + FRAME]) >= 0.5
        for at in range(0, len(audio) - FRAME + 1, FRAME)
    ]
