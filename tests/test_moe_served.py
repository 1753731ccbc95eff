"""A spoken call whose answers come from a mixture of experts behind an OpenAI-compatible server:
a second Conch, which serves the checkpoint by the transformers engine."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from assistant.config import CallConfig, Config, LlmConfig, ServerConfig
from llm.interfaces import Message, Prompt
from llm.openai import OpenAIEngine
from llm.transformers import TransformersEngine
from speech.audio import to_float
from tests import tiny
from tests.fakes import FakeEngines, pcm16
from tests.loopback import NamedEngines, serving

RATE = 24_000
ASKED, LINE = "weather of the fox", "the lazy dog jumps over a quick user."
PROMPT = Prompt((Message("system", "you talk of the weather"), Message("user", ASKED)))
CONFIG = Config(
    server=ServerConfig(port=0),
    call=CallConfig(instructions="you talk of the weather"),
    llm=LlmConfig(temperature=0.0, max_tokens=60),
)


def with_model(model: Any) -> FakeEngines:
    engines = NamedEngines(cost=0.01)
    engines.llm = model
    return engines


async def converse(call: ClientConnection, speech: bytes) -> list[dict[str, Any]]:
    """Say something; all events up to the end of the response to it."""
    append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(speech).decode()}
    await call.send(json.dumps(append))
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not events or events[-1]["type"] != "response.done":
            events.append(json.loads(await call.recv()))
    return events


async def test_a_mixture_behind_a_server_answers_a_call(tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "moe", "qwen2-moe", initializer_range=0.02)
    moe = TransformersEngine(tiny.learn(path, [(PROMPT, LINE)]), threads=1)
    async with serving(with_model(moe)) as models:
        remote = OpenAIEngine(f"http://{models.host}/v1", name="moe")
        engines = with_model(remote)
        quiet = np.zeros(RATE, np.float32)
        speech = pcm16(np.concatenate([engines.code.audio(ASKED, RATE), quiet]))
        async with serving(engines, CONFIG) as server, connect(server.realtime) as call:
            events = await converse(call, speech.tobytes())
        await remote.aclose()
    await moe.aclose()
    output = events[-1]["response"]["output"]
    assert [part["transcript"] for part in output[0]["content"]] == [LINE]
    deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
    pcm = np.frombuffer(b"".join(map(base64.b64decode, deltas)), np.int16)
    assert engines.code.text(to_float(pcm), RATE) == LINE.rstrip(".")
