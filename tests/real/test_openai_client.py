"""The stock `openai` client on a call with the real models: it writes, it speaks, it calls a tool.

The reply's audio is recognised with the server's own recogniser and must say its transcript.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile
import soxr

from assistant.config import Config, LlmConfig, ServerConfig, TtsConfig
from speech.audio import to_float
from speech.interfaces import RATE as HEARD
from tests.loopback import Loopback, serving
from tests.strict import valid

CALLER = Path(__file__).parents[2] / "assistant/clients/caller"
RATE, STEP = 24_000, 2_400
ONE_SENTENCE = "You are on a voice call. Answer in one short spoken sentence."
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Tell the weather of today in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Loopback]:
    llm, tts = LlmConfig(model="qwen2.5-coder-1.5b"), TtsConfig(engine="piper")
    config = Config(server=ServerConfig(port=0), llm=llm, tts=tts)
    async with serving(None, config) as server:
        server.service.ready()
        yield server


class Call:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def until(self, kind: str) -> Any:
        async with asyncio.timeout(30):
            while True:
                raw = await self.connection.recv_bytes()
                event = json.loads(raw)
                valid(event)
                assert event["type"] != "error", event
                self.events.append(event)
                if event["type"] == kind:
                    return self.connection.parse_event(raw)

    async def say(self, name: str) -> None:
        """A caller's recording at the speed at which it was spoken, and then silence for good."""
        audio, rate = soundfile.read(CALLER / f"{name}.flac", dtype="float32")
        audio = soxr.resample(audio, rate, RATE)
        pcm = (np.concatenate([audio, np.zeros(RATE * 3)]) * 32767).astype("<i2")
        for at in range(0, len(pcm), STEP):
            chunk = base64.b64encode(pcm[at : at + STEP].tobytes()).decode()
            await self.connection.input_audio_buffer.append(audio=chunk)
            await asyncio.sleep(STEP / RATE)


@asynccontextmanager
async def calling(server: Loopback) -> AsyncIterator[Call]:
    client = openai.AsyncOpenAI(base_url=f"http://{server.host}/v1", api_key="none")
    async with client.realtime.connect(model="gpt-realtime") as connection:
        yield Call(connection)
    await client.close()
    await server.empty()


def plain(text: str) -> str:
    return re.sub(r"[^\w ]", "", text.lower())


async def test_a_text_turn(server: Loopback) -> None:
    async with calling(server) as call:
        text = "What is the capital of France?"
        await call.connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            }
        )
        await call.connection.response.create(response={"output_modalities": ["text"]})
        done = await call.until("response.done")
    assert done.response.status == "completed"
    assert "Paris" in done.response.output[0].content[0].text
    assert done.response.usage.output_tokens > 1


async def test_an_audio_turn(server: Loopback) -> None:
    """About the sky: "France is" said by this voice is "Francis" to this recogniser."""
    settings: Any = {"type": "realtime", "instructions": ONE_SENTENCE, "temperature": 0}
    async with calling(server) as call:
        await call.connection.session.update(session=settings)
        speaking = asyncio.create_task(call.say("sky-am_michael"))
        words = await call.until("conversation.item.input_audio_transcription.completed")
        assert plain(words.transcript) == "why is the sky blue"
        done = await call.until("response.done")
        speaking.cancel()
    assert done.response.status == "completed"
    said = done.response.output[0].content[0].transcript
    assert "light" in said
    deltas = [e["delta"] for e in call.events if e["type"] == "response.output_audio.delta"]
    pcm = np.frombuffer(b"".join(map(base64.b64decode, deltas)), np.int16)
    audio = soxr.resample(to_float(pcm), RATE, HEARD)
    recognizer = server.service.ready().recognizer
    heard = await asyncio.to_thread(recognizer.transcribe, audio, language="en")
    assert jiwer.wer(plain(said), plain(heard.text)) < 0.15


async def test_a_tool_call(server: Loopback) -> None:
    settings: Any = {
        "type": "realtime",
        "output_modalities": ["text"],
        "tools": [WEATHER],
        "temperature": 0,
    }
    async with calling(server) as call:
        await call.connection.session.update(session=settings)
        await call.connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "What is the weather in Bern today?"}],
            }
        )
        await call.connection.response.create(response={"tool_choice": "required"})
        asked = await call.until("response.function_call_arguments.done")
        assert asked.name == "get_weather"
        assert "bern" in json.loads(asked.arguments)["city"].lower()
        await call.until("response.done")
        await call.connection.conversation.item.create(
            item={
                "type": "function_call_output",
                "call_id": asked.call_id,
                "output": '{"weather": "heavy rain", "degrees": 9}',
            }
        )
        await call.connection.response.create(response={"tool_choice": "none"})
        done = await call.until("response.done")
    assert "rain" in done.response.output[0].content[0].text.lower()
