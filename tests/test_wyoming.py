"""The Wyoming server against the client of the `wyoming` package."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.handle import Handled, HandledChunk, NotHandled
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncTcpServer
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from assistant.config import Config
from assistant.engines import LoadError
from assistant.wyoming_server import Assist, Client, serve
from speech.audio import to_float
from speech.interfaces import Voice
from tests.fakes import FakeEngines, failing, message_texts, pcm16

RATE = 16_000


@asynccontextmanager
async def serving(engines: FakeEngines) -> AsyncIterator[AsyncTcpServer]:
    assist = Assist(Config(), engines)  # type: ignore[arg-type]  # fakes
    server = AsyncTcpServer("127.0.0.1", 0)
    await server.start(partial(Client, assist))
    try:
        yield server
    finally:
        await server.stop()
        await asyncio.gather(*server._handlers)
        assert engines.llm.free == 4


@asynccontextmanager
async def connected(server: AsyncTcpServer) -> AsyncIterator[AsyncTcpClient]:
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]
    client = AsyncTcpClient("127.0.0.1", port, read_timeout=30)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


@pytest.fixture
def engines() -> FakeEngines:
    engines = FakeEngines(cost=0.01)
    engines.llm.first_token = engines.llm.token = 0.001
    return engines


@pytest.fixture
async def client(engines: FakeEngines) -> AsyncIterator[AsyncTcpClient]:
    async with serving(engines) as server, connected(server) as client:
        yield client


async def until(client: AsyncTcpClient, last: str) -> list[Event]:
    """The events up to the first of that type."""
    events: list[Event] = []
    while not events or events[-1].type != last:
        event = await client.read_event()
        assert event is not None, [e.type for e in events]
        events.append(event)
    return events


def kinds(events: list[Event]) -> list[str]:
    """Their types, repetitions left out."""
    types = [event.type for event in events]
    return [kind for at, kind in enumerate(types) if not at or types[at - 1] != kind]


async def say(
    client: AsyncTcpClient, audio: Any, rate: int = RATE, channels: int = 1, *, pace: float = 0
) -> None:
    await client.write_event(AudioStart(rate=rate, width=2, channels=channels).event())
    step = rate // 20
    for at in range(0, len(audio), step):
        data = np.repeat(pcm16(audio[at : at + step]), channels).tobytes()
        chunk = AudioChunk(rate=rate, width=2, channels=channels, audio=data)
        await client.write_event(chunk.event())
        await asyncio.sleep(pace)
    await client.write_event(AudioStop().event())


def spoken(engines: FakeEngines, text: str, rate: int = RATE) -> Any:
    quiet = np.zeros(rate // 4, np.float32)
    return np.concatenate([quiet, engines.code.audio(text, rate), quiet])


def heard(engines: FakeEngines, events: list[Event]) -> str:
    chunks = [AudioChunk.from_event(e) for e in events if AudioChunk.is_type(e.type)]
    assert {(c.rate, c.width, c.channels) for c in chunks} == {(24_000, 2, 1)}
    pcm = np.frombuffer(b"".join(chunk.audio for chunk in chunks), np.int16)
    return engines.code.text(to_float(pcm), 24_000)


async def test_describe(client: AsyncTcpClient) -> None:
    await client.write_event(Describe().event())
    (event,) = await until(client, "info")
    info = Info.from_event(event)
    ((asr,), (tts,), (handle,)) = info.asr, info.tts, info.handle
    assert asr.supports_transcript_streaming
    assert {"en", "de", "zh"} <= set(asr.models[0].languages)
    assert tts.supports_synthesize_streaming
    assert [(v.name, v.languages) for v in tts.voices] == [("fake", ["en-US"])]
    assert handle.supports_handled_streaming
    assert handle.models[0].name == "fake"
    assert not handle.supports_home_control
    await client.write_event(Ping("x").event())
    assert Pong.from_event((await until(client, "pong"))[0]).text == "x"


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (16_000, 2), (8_000, 1)])
async def test_transcribe(
    client: AsyncTcpClient, engines: FakeEngines, rate: int, channels: int
) -> None:
    for text in ("turn on the light", "and the heating"):
        await client.write_event(Transcribe(language="de-DE").event())
        await say(client, spoken(engines, text, rate), rate, channels)
        events = await until(client, "transcript-stop")
        transcript = next(e for e in events if Transcript.is_type(e.type))
        assert Transcript.from_event(transcript).text == text
        assert Transcript.from_event(transcript).language == "de"


async def test_words_come_while_they_are_spoken(
    client: AsyncTcpClient, engines: FakeEngines
) -> None:
    text = "one two three four five six seven eight"
    events = asyncio.create_task(until(client, "transcript-stop"))
    await say(client, spoken(engines, text), pace=0.05)
    got = await events
    assert kinds(got) == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
    chunks = [TranscriptChunk.from_event(e).text for e in got if TranscriptChunk.is_type(e.type)]
    assert len(chunks) > 2
    assert "".join(chunks) == text


async def test_silence_is_no_words(client: AsyncTcpClient, engines: FakeEngines) -> None:
    await say(client, np.zeros(RATE, np.float32))
    events = await until(client, "transcript")
    assert Transcript.from_event(events[-1]).text == ""
    assert engines.recognizer.decodes == 0


async def test_synthesize(client: AsyncTcpClient, engines: FakeEngines) -> None:
    for text in ("The light is on. It is warm.", "Yes."):
        await client.write_event(Synthesize(text).event())
        events = await until(client, "audio-stop")
        assert kinds(events) == ["audio-start", "audio-chunk", "audio-stop"]
        assert AudioStart.from_event(events[0]).rate == 24_000
        assert heard(engines, events) == text.lower().replace(".", "")
    await client.write_event(Synthesize("...").event())
    assert kinds(await until(client, "audio-stop")) == ["audio-start", "audio-stop"]


async def test_speech_comes_while_the_text_is_written(
    client: AsyncTcpClient, engines: FakeEngines
) -> None:
    await client.write_event(SynthesizeStart().event())
    await client.write_event(SynthesizeChunk("The light is on now. And ").event())
    first = await until(client, "audio-chunk")
    assert kinds(first) == ["audio-start", "audio-chunk"]
    await client.write_event(SynthesizeChunk("the door ").event())
    await client.write_event(SynthesizeChunk("is shut.").event())
    # Home Assistant also sends the whole, for servers that know no streams.
    await client.write_event(Synthesize("The light is on now. And the door is shut.").event())
    await client.write_event(SynthesizeStop().event())
    events = first + await until(client, "synthesize-stopped")
    assert kinds(events)[-2:] == ["audio-stop", "synthesize-stopped"]
    assert kinds(events).count("audio-start") == 1
    assert heard(engines, events) == "the light is on now and the door is shut"


async def test_a_voice_by_name_or_by_language(engines: FakeEngines) -> None:
    asked: list[str] = []
    synthesize = engines.synthesizer.synthesize
    engines.synthesizer.voices = (Voice("al", "en-GB", "male"), Voice("bo", "zh-CN", "female"))

    def noted(text: str, *, voice: str = "", speed: float = 1.0) -> Any:
        asked.append(voice)
        return synthesize(text)

    engines.synthesizer.synthesize = noted  # type: ignore[method-assign]  # to see what is asked
    async with serving(engines) as server, connected(server) as client:
        for voice in (
            SynthesizeVoice(name="x"),
            SynthesizeVoice(language="zh"),
            SynthesizeVoice(language="fr"),
            None,
        ):
            await client.write_event(Synthesize("Hi.", voice=voice).event())
            await until(client, "audio-stop")
    assert asked == ["x", "bo", "", ""]


async def test_a_conversation_is_remembered_by_its_id(engines: FakeEngines) -> None:
    async def ask(text: str, **context: str) -> list[Event]:
        async with connected(server) as client:
            await client.write_event(Transcript(text, context=context).event())
            return await until(client, "handled-stop")

    async with serving(engines) as server:
        events = await ask("hello", conversation_id="a")
        assert kinds(events) == ["handled-start", "handled-chunk", "handled", "handled-stop"]
        whole = Handled.from_event(events[-2])
        assert whole.text == "you said hello. that is all."
        assert whole.context == {"conversation_id": "a"}
        pieces = [HandledChunk.from_event(e).text for e in events[1:-2]]
        assert "".join(pieces) == whole.text
        assert len(pieces) > 3
        await ask("again", conversation_id="a")
        remembered = message_texts(engines.llm.prompts[-1])[1:]
        assert remembered == [("user", "hello"), ("assistant", whole.text), ("user", "again")]
        await ask("who", conversation_id="b")
        await ask("nobody")
        assert message_texts(engines.llm.prompts[-1])[1:] == [("user", "nobody")]
        for number in range(31):
            await ask("hi", conversation_id=str(number))
        await ask("still there", conversation_id="a")
        assert len(engines.llm.prompts[-1].messages) == 2, "the oldest is forgotten"


async def test_what_fails_is_said_and_the_next_thing_works(
    client: AsyncTcpClient, engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    engines.synthesizer.broken = engines.recognizer.broken = True
    engines.llm.script = failing
    await client.write_event(Synthesize("Hello.").event())
    error = Error.from_event((await until(client, "error"))[-1])
    assert (error.text, error.code) == ("the synthesiser is out of order", "engine-failed")
    await client.write_event(SynthesizeStart().event())
    for _ in range(200):
        await client.write_event(SynthesizeChunk("And on and on it goes. ").event())
    await client.write_event(SynthesizeStop().event())
    assert Error.from_event((await until(client, "error"))[-1]).code == "engine-failed"
    await say(client, spoken(engines, "hello"))
    error = Error.from_event((await until(client, "error"))[-1])
    assert error.text == "the recogniser is out of order"
    await client.write_event(Transcript("hello").event())
    answer = NotHandled.from_event((await until(client, "not-handled"))[-1])
    assert answer.text == "the model is out of order"
    await client.write_event(Event("synthesize"))
    assert "complete synthesize" in Error.from_event((await until(client, "error"))[-1]).text
    await client.write_event(AudioStart(rate=RATE, width=4, channels=1).event())
    chunk = AudioChunk(rate=RATE, width=4, channels=1, audio=b"\x00" * 400)
    await client.write_event(chunk.event())
    assert "expected 16-bit" in Error.from_event((await until(client, "error"))[-1]).text
    engines.synthesizer.broken = False
    await client.write_event(Synthesize("Hello.").event())
    assert heard(engines, await until(client, "audio-stop")) == "hello"


async def test_a_client_that_leaves_stops_what_it_asked_for(
    engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(engines) as server:
        async with connected(server) as client:
            await client.write_event(AudioStart(rate=RATE, width=2, channels=1).event())
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk("A first sentence. And ").event())
            await until(client, "audio-chunk")
        async with asyncio.timeout(10):
            while server._handlers:  # noqa: ASYNC110  # seen from outside
                await asyncio.sleep(0.01)
        for nonsense in (b"GET / HTTP/1.1\r\n", b"[]\n"):
            async with connected(server) as client:
                assert client._writer is not None
                client._writer.write(nonsense)
                assert await client.read_event() is None
        async with connected(server) as client:
            assert client._writer is not None
            client._writer.write(b'{"type": "audio-chunk", "payload_length": 9}\n123')
    assert caplog.text.count("a connection broke") == 1
    assert caplog.text.count("a client left in the middle") == 1


async def test_where_to_listen_is_checked_before_anything_is_loaded() -> None:
    with pytest.raises(LoadError, match="expected tcp://HOST:PORT or unix://PATH, got 'tcp://x'"):
        await serve(Config(), "tcp://x")
