"""Stock clients against the server on loopback; every event passes their strict models."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import openai
import pytest
from agents import function_tool, set_tracing_disabled
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from agents.realtime.openai_realtime import get_server_event_type_adapter
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assistant.config import Config, Secret, ServerConfig
from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta, ToolCall
from speech.audio import to_float
from tests.fakes import Event, FakeEngines, message_texts, pcm16
from tests.loopback import Loopback, NamedEngines, serving

RATE = 24_000
STRICT = get_server_event_type_adapter()
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
set_tracing_disabled(True)


def brief(prompt: Prompt) -> Iterable[ReplyPart]:
    """Half a second of speech; a tool call where there is a tool and no answer of it yet."""
    last = prompt.messages[-1]
    if prompt.tools and last.role != "tool":
        yield ToolCall("call_1", "weather", '{"city": "Bern"}')
        yield Finished("tool_calls", 20, 0, 5)
        return
    yield TextDelta("it rains" if last.role == "tool" else f"yes {last.content.split()[-1]}")
    yield Finished("stop", 20, 12, 2)


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with serving(quick()) as server:
        yield server


def quick() -> FakeEngines:
    engines = NamedEngines(cost=0.01)
    engines.llm.first_token = engines.llm.token = 0.01
    engines.llm.script = brief
    return engines


def fakes(server: Loopback) -> FakeEngines:
    engines: Any = server.service.engines
    assert isinstance(engines, FakeEngines)
    return engines


def spoken(engines: FakeEngines, text: str) -> bytes:
    """The words and the silence after them, as PCM16."""
    quiet = np.zeros(RATE // 2, np.float32)
    return pcm16(np.concatenate([engines.code.audio(text, RATE), quiet])).tobytes()


class Call:
    """The `openai` client's connection, each of its messages checked as it came."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[Event] = []

    async def until(self, kind: str) -> Any:
        """The next event of this kind."""
        async with asyncio.timeout(20):
            while True:
                raw = await self.connection.recv_bytes()
                STRICT.validate_json(raw, strict=True)
                self.events.append(json.loads(raw))
                event = self.connection.parse_event(raw)
                assert event.type != "error" or kind == "error", event
                if event.type == kind:
                    return event

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def speak(self, audio: bytes) -> None:
        for at in range(0, len(audio), 24_000):
            chunk = base64.b64encode(audio[at : at + 24_000]).decode()
            await self.connection.input_audio_buffer.append(audio=chunk)

    def heard(self, engines: FakeEngines) -> str:
        deltas = [e["delta"] for e in self.events if e["type"] == "response.output_audio.delta"]
        pcm = np.frombuffer(b"".join(map(base64.b64decode, deltas)), np.int16)
        return engines.code.text(to_float(pcm), RATE)


@asynccontextmanager
async def calling(server: Loopback, key: str = "x") -> AsyncIterator[Call]:
    client = openai.AsyncOpenAI(base_url=f"http://{server.host}/v1", api_key=key)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        yield Call(connection)
    await client.close()


# --- the openai package -----------------------------------------------------------------------


async def test_a_text_turn(server: Loopback) -> None:
    async with calling(server) as call:
        created = await call.until("session.created")
        assert created.session.model == "gpt-realtime"
        await call.connection.session.update(
            session={"type": "realtime", "output_modalities": ["text"]}
        )
        await call.until("session.updated")
        await call.connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hello there"}],
            }
        )
        await call.connection.response.create()
        done = await call.until("response.done")
    assert done.response.status == "completed"
    assert done.response.output[0].content[0].text == "yes there"
    assert (done.response.usage.input_tokens, done.response.usage.output_tokens) == (20, 2)
    await server.empty()
    assert fakes(server).llm.free == 4


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_an_audio_turn(server: Loopback, detection: Any) -> None:
    engines = fakes(server)
    async with calling(server) as call:
        await call.connection.session.update(
            session={
                "type": "realtime",
                "audio": {
                    "input": {
                        "turn_detection": {"type": detection},
                        "transcription": {"model": "whisper-1"},
                    },
                    "output": {"voice": "marin"},
                },
            }
        )
        updated = await call.until("session.updated")
        assert updated.session.audio.input.turn_detection.interrupt_response is True
        await call.speak(spoken(engines, "is it so"))
        words = await call.until("conversation.item.input_audio_transcription.completed")
        assert words.transcript == "is it so"
        done = await call.until("response.done")
    assert done.response.status == "completed"
    assert call.heard(engines) == "yes so"
    assert done.response.output[0].content[0].transcript == "yes so"


async def test_an_interruption(server: Loopback) -> None:
    """As an application of one's own does it: it truncates to what it has played."""
    engines = fakes(server)
    engines.llm.script = lambda _: [*(TextDelta(f"word{n} ") for n in range(30)), Finished("stop")]
    async with calling(server) as call:
        await call.speak(spoken(engines, "tell me more"))
        for _ in range(25):
            delta = await call.until("response.output_audio.delta")
        engines.llm.script = brief
        speech = spoken(engines, "stop please enough now")
        await call.speak(speech[:RATE])
        await call.until("input_audio_buffer.speech_started")
        await call.connection.conversation.item.truncate(
            item_id=delta.item_id, content_index=0, audio_end_ms=550
        )
        done = (await call.until("response.done")).response
        assert (done.status, done.status_details.reason) == ("cancelled", "turn_detected")
        truncated = await call.until("conversation.item.truncated")
        assert truncated.audio_end_ms == 550
        await call.speak(speech[RATE:])
        call.events.clear()
        await call.until("response.done")
        await call.connection.conversation.item.retrieve(item_id=delta.item_id)
        item = (await call.until("conversation.item.retrieved")).item
    assert call.heard(engines) == "yes now"
    assert item.content[0].transcript == "word0 word1"
    remembered = dict(message_texts(engines.llm.prompts[-1]))["assistant"]
    assert remembered == "word0 word1—"


async def test_push_to_talk(server: Loopback) -> None:
    """The flow of the console's push-to-talk: cancel and truncate, append, commit, create."""
    engines = fakes(server)
    async with calling(server) as call:
        await call.connection.session.update(
            session={"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        )
        await call.until("session.updated")
        for words in ("is it so", "and now"):
            await call.connection.response.cancel()
            refused = await call.until("error")
            assert refused.error.code == "response_cancel_not_active"
            await call.speak(spoken(engines, words))
            await call.connection.input_audio_buffer.commit()
            await call.connection.response.create()
            await call.until("response.done")
    assert call.heard(engines) == "yes so yes now"
    assert "input_audio_buffer.speech_started" not in call.kinds()


async def test_a_tool_call(server: Loopback) -> None:
    engines = fakes(server)
    async with calling(server) as call:
        await call.connection.session.update(session={"type": "realtime", "tools": [WEATHER]})
        await call.speak(spoken(engines, "will it rain"))
        asked = await call.until("response.function_call_arguments.done")
        assert (asked.name, asked.arguments) == ("weather", '{"city": "Bern"}')
        done = await call.until("response.done")
        assert done.response.output[0].call_id == asked.call_id
        await call.connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": asked.call_id, "output": "rain"}
        )
        await call.connection.response.create()
        await call.until("response.done")
    assert call.heard(engines) == "it rains"
    roles = [role for role, _ in message_texts(engines.llm.prompts[-1])]
    assert roles == ["system", "user", "assistant", "tool"]


async def test_the_key_is_the_clients_api_key() -> None:
    config = Config(server=ServerConfig(port=0, api_key=Secret("sk-right")))
    async with serving(quick(), config) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with calling(server, "sk-wrong"):
                pass
        assert refused.value.response.status_code == 401
        async with calling(server, "sk-right") as call:
            await call.until("session.created")


async def test_one_call_too_many_hears_why() -> None:
    config = Config(server=ServerConfig(port=0, max_calls=1))
    async with serving(quick(), config) as server, calling(server) as first:
        await first.until("session.created")
        async with calling(server) as second:
            error = await second.until("error")
            assert error.error.code == "too_many_calls"
            with pytest.raises(ConnectionClosed) as closed:
                await second.connection.recv_bytes()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


# --- what no library does ---------------------------------------------------------------------


async def closing(call: ClientConnection) -> tuple[int | None, str | None]:
    """Read to the end; how the server closed."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            async for _ in call:
                pass
    return call.close_code, call.close_reason


async def test_an_over_size_frame_is_an_error_and_a_huge_one_the_end(server: Loopback) -> None:
    async with connect(server.realtime) as call:
        await call.recv()
        item = {"type": "message", "role": "user", "content": ["A" * 1_100_000]}
        event = {"type": "conversation.item.create", "event_id": "mine", "item": item}
        await call.send(json.dumps(event))
        error = json.loads(await call.recv())["error"]
        assert (error["code"], error["event_id"]) == ("message_too_large", "mine")
        with suppress(ConnectionClosed):
            await call.send(b" " * 17_000_000)
        assert (await closing(call))[0] == 1009
    await server.empty()
    assert fakes(server).llm.free == 4


async def test_a_client_that_does_not_read_is_hung_up_on(server: Loopback) -> None:
    """It asks for the same half megabyte until the socket and the outbox are full."""
    content = [{"type": "input_text", "text": "x" * 500_000}]
    item = {"type": "message", "role": "user", "id": "a", "content": content}
    async with connect(server.realtime, max_queue=1) as call:
        await call.send(json.dumps({"type": "conversation.item.create", "item": item}))
        for _ in range(100):
            await call.send(json.dumps({"type": "conversation.item.retrieve", "item_id": "a"}))
        code, reason = await closing(call)
    assert code == 1008
    assert "too slowly" in (reason or "")
    await server.empty()
    assert fakes(server).llm.free == 4


# --- openai-agents ----------------------------------------------------------------------------


class Agents:
    """A RealtimeSession, and what it says happened."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.happened: list[Any] = []
        self.audio = b""
        self._events = aiter(session)

    async def until(self, kind: str) -> Any:
        async with asyncio.timeout(20):
            async for event in self._events:
                if event.type == "raw_model_event":
                    if event.data.type == "raw_server_event":
                        STRICT.validate_python(event.data.data, strict=True)
                    continue
                assert event.type != "error", event
                self.happened.append(event)
                if event.type == "audio":
                    self.audio += event.audio.data
                if event.type == kind:
                    return event
        raise AssertionError(f"no {kind}")

    def heard(self, engines: FakeEngines) -> str:
        pcm = np.frombuffer(self.audio, np.int16)
        return engines.code.text(to_float(pcm), RATE)


@asynccontextmanager
async def agent(server: Loopback, **options: Any) -> AsyncIterator[Agents]:
    runner = RealtimeRunner(RealtimeAgent(name="conch", instructions="Be kind.", **options))
    session = await runner.run(model_config={"url": server.realtime, "api_key": "x"})
    async with session:
        yield Agents(session)


async def test_an_agent_hears_and_speaks(server: Loopback) -> None:
    engines = fakes(server)
    async with agent(server) as call:
        await call.session.send_audio(spoken(engines, "is it so"))
        await call.until("audio_end")
        await call.until("agent_end")
        assert call.heard(engines) == "yes so"
        said = [
            part.transcript
            for event in call.happened
            if event.type == "history_updated"
            for item in event.history
            for part in item.content
        ]
        assert {"is it so", "yes so"} <= set(said)
    assert engines.llm.prompts[-1].messages[0].content == "Be kind."


async def test_an_agent_is_interrupted(server: Loopback) -> None:
    engines = fakes(server)
    engines.llm.script = lambda _: [*(TextDelta(f"word{n} ") for n in range(30)), Finished("stop")]
    async with agent(server) as call:
        await call.session.send_audio(spoken(engines, "tell me more"))
        for _ in range(8):
            await call.until("audio")
        engines.llm.script = brief
        await call.session.send_audio(spoken(engines, "stop please enough"))
        await call.until("audio_interrupted")
        call.audio = b""
        await call.until("audio_end")
        await call.until("audio_end")
    assert call.heard(engines) == "yes enough"
    remembered = dict(message_texts(engines.llm.prompts[-1]))["assistant"]
    assert remembered.endswith("—")
    assert len(remembered.split()) < 12


async def test_an_agent_uses_its_tools(server: Loopback) -> None:
    engines = fakes(server)
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "rain"

    async with agent(server, tools=[weather]) as call:
        await call.session.send_message("will it rain")
        ended = await call.until("tool_end")
        assert ended.output == "rain"
        await call.until("audio_end")
    assert asked == ["Bern"]
    assert call.heard(engines) == "it rains"
    assert engines.llm.prompts[-1].messages[-1].content == "rain"
