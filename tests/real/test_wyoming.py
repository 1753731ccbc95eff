"""The whole of a local Assist pipeline, as Home Assistant runs it: one client for each stage."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.handle import Handled
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeVoice

from assistant.config import Config, LlmConfig, TtsConfig
from assistant.wyoming_server import serve

CONFIG = Config(
    llm=LlmConfig(model="qwen2.5-coder-0.5b", temperature=0.0, context=1024),
    # Kokoro says a sentence the same way each time; Piper does not, and is misheard now and then.
    tts=TtsConfig(engine="kokoro"),
)
QUESTION = "What is the capital of France?"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[AsyncTcpClient]:
    client = AsyncTcpClient("127.0.0.1", port, read_timeout=30)
    async with asyncio.timeout(60):
        while client._reader is None:
            try:
                await client.connect()
            except OSError:
                await asyncio.sleep(0.2)
    try:
        yield client
    finally:
        await client.disconnect()


async def until(client: AsyncTcpClient, last: str) -> list[Event]:
    events: list[Event] = []
    while not events or events[-1].type != last:
        event = await client.read_event()
        assert event is not None
        assert event.type != "error", event.data
        events.append(event)
    return events


async def test_a_question_is_spoken_heard_and_answered() -> None:
    port = free_port()
    serving = asyncio.create_task(serve(CONFIG, f"tcp://127.0.0.1:{port}"))
    try:
        async with connected(port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event((await until(client, "info"))[-1])
            voice = info.tts[0].voices[0].name
        async with connected(port) as client:
            await client.write_event(Synthesize(QUESTION, SynthesizeVoice(voice)).event())
            audio = (await until(client, "audio-stop"))[:-1]
        assert len([event for event in audio if AudioChunk.is_type(event.type)]) > 3
        async with connected(port) as client:
            await client.write_event(Transcribe(language="en").event())
            for event in audio:
                await client.write_event(event)
            await client.write_event(AudioStop().event())
            heard = Transcript.from_event((await until(client, "transcript"))[-1]).text
        assert re.sub(r"\W+", " ", heard).strip() == re.sub(r"\W+", " ", QUESTION).strip()
        async with connected(port) as client:
            asked = Transcript(heard, context={"conversation_id": "1"}, language="en")
            await client.write_event(asked.event())
            answer = Handled.from_event((await until(client, "handled"))[-1]).text
        assert answer is not None
        assert "Paris" in answer
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
