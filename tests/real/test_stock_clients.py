"""Other people's clients on calls with the real models: what they play is what they remember."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import jiwer
import numpy as np
import pytest
import pytest_asyncio
import soundfile
import soxr

from assistant.config import Config, ServerConfig, TtsConfig
from speech.interfaces import RATE as HEARD
from speech.interfaces import Audio, Pcm
from tests.loopback import Loopback, serving
from tests.stock import CALLS, RATE, command, hold

CALLER = Path(__file__).parents[2] / "assistant/clients/caller"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Loopback]:
    config = Config(server=ServerConfig(port=0), tts=TtsConfig(engine="piper"))
    async with serving(None, config) as server:
        server.service.ready()
        yield server


@pytest.fixture(params=CALLS)
def client(request: pytest.FixtureRequest) -> str:
    script: str = request.param
    command(script)
    return script


def line(name: str) -> Pcm:
    """A caller's recording."""
    audio, rate = soundfile.read(CALLER / f"{name}.flac", dtype="float32")
    pcm: Pcm = (soxr.resample(audio, rate, RATE) * 32767).astype(np.int16)
    return pcm


def plain(text: str) -> str:
    return re.sub(r"[^\w ]", "", text.lower())


async def heard(server: Loopback, audio: Audio) -> str:
    recognizer = server.service.ready().recognizer
    samples = soxr.resample(audio, RATE, HEARD)[: 28 * HEARD]
    return plain((await asyncio.to_thread(recognizer.transcribe, samples, language="en")).text)


async def test_an_audio_turn(client: str, server: Loopback) -> None:
    call = await hold(client, server.realtime, [line("sky-am_michael")])
    (user, asked), (assistant, said) = call.history[-2:]
    assert (user, plain(asked), assistant) == ("user", "why is the sky blue", "assistant")
    assert jiwer.wer(plain(said), await heard(server, call.played[-1])) < 0.2


async def test_an_interruption(client: str, server: Loopback) -> None:
    lines = [line("story-af_heart"), line("stop-af_heart")]
    call = await hold(client, server.realtime, lines)
    assert call.interruptions == 1
    story, answer = call.played[-2:]
    assert 1 < len(story) / RATE < 12
    assert re.search("twelve|12", await heard(server, answer))
