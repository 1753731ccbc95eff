"""A call on real models whose connection breaks in the middle of a question, and of the answer."""

from __future__ import annotations

import asyncio
import re

import jiwer
import numpy as np
import soxr

from assistant.clients.caller import FOLDER
from assistant.clients.wav import RATE, WavCaller, load
from assistant.config import Config, LlmConfig, ServerConfig, TtsConfig
from speech.audio import to_float
from speech.interfaces import RATE as HEARD_RATE
from tests.loopback import serving
from tests.proxy import Proxy, proxied

CONFIG = Config(
    server=ServerConfig(port=0),
    llm=LlmConfig(model="qwen2.5-coder-0.5b", temperature=0.0, context=1024),
    tts=TtsConfig(engine="piper"),
)
INSTRUCTIONS = "You are on a voice call. Answer in two whole sentences."
QUESTION = "What is the capital of France?"


def plain(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))


async def cut(net: Proxy, away: float) -> None:
    """The network is gone for that many seconds."""
    net.up = False
    net.cut()
    await asyncio.sleep(away)
    net.up = True


async def test_a_cut_in_a_question_and_one_in_its_answer_are_not_heard() -> None:
    question = load(FOLDER / "france-af_heart.flac")
    async with serving(None, CONFIG) as server, proxied(server.host, latency=0.03) as net:
        session = {"instructions": INSTRUCTIONS}
        async with WavCaller(f"ws://{net.host}/v1/realtime", session=session) as caller:
            await asyncio.sleep(0.5)
            asked = caller.say(question)
            await asyncio.sleep(len(question) / RATE / 2)
            assert not asked.said.is_set()
            await cut(net, away=1.5)
            await caller.wait_for("response.output_audio.delta", 60)
            await asyncio.sleep(0.4)
            assert not any(event["type"] == "response.done" for _, event in caller.events)
            await cut(net, away=2.0)
            transcript = await caller.wait_for(
                "conversation.item.input_audio_transcription.completed", 60
            )
            done = await caller.wait_for("response.done", 60)
            await caller.played_out()
            (line,) = server.service.calls
            (said,) = line.call.memory.replies.values()
        assert net.carried == 3
        engines = server.service.engines
        assert engines is not None
        spoken = np.concatenate([part.pcm for part in caller.speaker.played])
        wide = soxr.resample(to_float(spoken), RATE, HEARD_RATE)
        heard = await engines.run("asr", lambda: engines.recognizer.transcribe(wide, language="en"))
    assert transcript["transcript"] == QUESTION
    reply = done["response"]["output"][0]["content"][0]["transcript"]
    assert "Paris" in reply
    assert len(spoken) == said.ledger.samples, "every sample once"
    # One word of six may be the recogniser's: it takes some of Piper's "France" for "friends".
    assert jiwer.wer(plain(reply), plain(heard.text)) < 0.17
