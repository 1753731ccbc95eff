"""A tool that takes its time, in a voice turn: for our clients, and for stock ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from assistant.config import Config, TurnSettings
from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta, ToolCall
from tests.calls import AUDIO, Client, call
from tests.fakes import FakeEngines, message_texts, pcm16
from tests.loopback import NamedEngines, serving

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
MOMENT = "one moment i'm looking that up"


def script(prompt: Prompt) -> Iterable[ReplyPart | Exception | float]:
    last = prompt.messages[-1]
    if last.role == "tool":
        return [TextDelta(f"It will {last.content}."), Finished("stop")]
    return [ToolCall("call_1", "weather", '{"city": "Bern"}'), Finished("tool_calls")]


def answering() -> FakeEngines:
    engines = NamedEngines()
    engines.llm.script = script
    return engines


async def ask(client: Client) -> None:
    client.tell("session.update", session={"type": "realtime", "tools": [TOOL]})
    await client.say("how is the weather")
    await client.until("response.done")


def answer(client: Client) -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    client.tell("conversation.item.create", item=output)
    client.tell("response.create")


def statuses(client: Client) -> list[str]:
    return [event["response"]["status"] for event in client.all("response.done")]


def test_the_caller_hears_that_it_takes_a_moment_and_then_the_answer() -> None:
    async def slow(client: Client) -> None:
        await ask(client)
        await client.quiet(10)
        answer(client)
        await client.until("response.done", 3)

    engines = answering()
    client = call(slow, engines=engines)
    assert client.heard() == f"{MOMENT} it will rain"
    assert statuses(client) == ["completed", "completed", "completed"]
    asked, told = client.when("response.done"), client.when("response.created", 2)
    assert told - asked == pytest.approx(1.0, abs=0.05)
    assert not client.all("error")
    roles = [role for role, _ in message_texts(engines.llm.prompts[-1])]
    assert roles == ["system", "user", "assistant", "tool"], "one message with its call"


def test_the_sentence_makes_way_for_the_answer() -> None:
    async def slow(client: Client) -> None:
        await ask(client)
        await client.until(AUDIO, 10)
        answer(client)
        await client.until("response.done", 3)

    client = call(slow, engines=answering())
    assert client.heard().endswith("it will rain")
    assert not client.heard().startswith(MOMENT)
    assert statuses(client) == ["completed", "cancelled", "completed"]
    assert not client.all("error")


def test_a_quick_tool_needs_no_sentence() -> None:
    async def quick(client: Client) -> None:
        await ask(client)
        await client.quiet(0.5)
        answer(client)
        await client.until("response.done", 2)
        await client.quiet(5)

    assert call(quick, engines=answering()).heard() == "it will rain"


@pytest.mark.parametrize("written", [True, False])
def test_nothing_is_said_in_a_written_reply_or_when_it_is_switched_off(written: bool) -> None:
    async def slow(client: Client) -> None:
        if written:
            session = {"type": "realtime", "output_modalities": ["text"]}
            client.tell("session.update", session=session)
        await ask(client)
        await client.quiet(5)

    config = Config(turns=TurnSettings(tool_wait_ms=1000 if written else 0))
    client = call(slow, engines=answering(), config=config)
    assert len(client.all("response.created")) == 1


@pytest.mark.client
@pytest.mark.parametrize("takes", [1.1, 4.0])
async def test_openai_agents_with_a_slow_tool(takes: float) -> None:
    """It sends the tool's answer and response.create by itself, whatever is being said."""
    from agents import function_tool
    from agents.realtime import RealtimeAgent, RealtimeRunner

    @function_tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        await asyncio.sleep(takes)
        return f"rain in {city}".lower()

    engines = answering()
    async with serving(engines) as server:
        runner = RealtimeRunner(RealtimeAgent(name="conch", tools=[weather]))
        session = await runner.run(model_config={"url": server.realtime, "api_key": "x"})
        async with session, asyncio.timeout(60):
            audio = engines.code.audio("how is the weather", 24_000)
            quiet = bytes(2 * 24_000)
            await session.send_audio(pcm16(audio).tobytes() + quiet)
            said = await _until_it_has_said(session, "It will rain in bern.")
    assert said[-1] == "It will rain in bern."
    assert said[0].startswith("One moment")
    roles = [role for role, _ in message_texts(engines.llm.prompts[-1])]
    assert roles.count("tool") == 1


async def _until_it_has_said(session: Any, words: str) -> list[str]:
    """The transcripts of the replies so far, as far as they were spoken."""
    said: dict[str, str] = {}
    async for event in session:
        assert event.type != "error", event
        if event.type != "raw_model_event" or event.data.type != "raw_server_event":
            continue
        raw = event.data.data
        assert raw["type"] != "error", raw
        if raw["type"] == "response.output_audio_transcript.delta":
            said[raw["item_id"]] = said.get(raw["item_id"], "") + raw["delta"]
        if raw["type"] == "response.done" and words in said.values():
            return list(said.values())
    raise AssertionError(f"the call ended after {said}")
