"""Other people's clients on calls with the server on loopback, each as its own examples use it.

Each runs in a process and with packages of its own, which `make test-clients` installs; one that is
not installed is skipped. With the real models: tests/real/test_stock_clients.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta, ToolCall
from tests.calls import Client
from tests.fakes import FakeEngines, message_texts, pcm16
from tests.loopback import Loopback, NamedEngines, serving
from tests.stock import CALLS, RATE, Call, command, hold
from tests.test_strict_events import session_scripts

pytestmark = pytest.mark.client

STORY = [f"word{n}" for n in range(30)]


def answers(prompt: Prompt) -> Iterable[ReplyPart]:
    """A story where one is asked for, a tool call where one is needed, else the last word."""
    last = prompt.messages[-1]
    word = last.content.split()[-1].strip('"')
    if word == "weather":
        cities = ["Bern", "Rome"] if "both" in last.content else ["Bern"]
        yield from (ToolCall(f"call_{city}", "weather", f'{{"city": "{city}"}}') for city in cities)
        yield Finished("tool_calls", 20, 0, 5)
        return
    words = STORY if word == "story" else ["yes", word]
    yield from (TextDelta(f"{word} ") for word in words)
    yield Finished("stop", 20, 12, 2)


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    engines = NamedEngines(cost=0.01)
    engines.llm.first_token = engines.llm.token = 0.01
    engines.llm.script = answers
    async with serving(engines) as server:
        yield server


def fakes(server: Loopback) -> FakeEngines:
    engines: Any = server.service.engines
    assert isinstance(engines, FakeEngines)
    return engines


async def held(script: str, server: Loopback, *lines: str) -> Call:
    engines = fakes(server)
    speech = [pcm16(engines.code.audio(line, RATE)) for line in lines]
    call = await hold(script, server.realtime, speech)
    await server.empty()
    assert engines.llm.free == 4
    return call


def heard(server: Loopback, call: Call) -> list[str]:
    """The words of each reply that was played."""
    return [fakes(server).code.text(audio, RATE) for audio in call.played]


@pytest.fixture(params=CALLS)
def client(request: pytest.FixtureRequest) -> str:
    script: str = request.param
    command(script)
    return script


async def test_an_audio_turn(client: str, server: Loopback) -> None:
    call = await held(client, server, "is it so")
    assert heard(server, call)[-1] == "yes so"
    assert call.history[-2:] == [("user", "is it so"), ("assistant", "yes so")]
    assert fakes(server).llm.prompts[-1].messages[0].content == "Be kind."


async def test_an_interruption(client: str, server: Loopback) -> None:
    """Client and server agree on what was heard, but for the audio that is ahead of the clock."""
    call = await held(client, server, "tell me a story", "stop please enough")
    assert call.interruptions == 1
    cut, answer = heard(server, call)[-2:]
    assert answer == "yes enough"
    assert cut.split() == STORY[: len(cut.split())]
    assert 3 <= len(cut.split()) < 12
    messages = message_texts(fakes(server).llm.prompts[-1])
    remembered = [text for role, text in messages if role == "assistant"][-1]
    assert remembered.endswith("—")
    assert abs(len(remembered.split()) - len(cut.split())) <= 2


async def test_a_tool_call(client: str, server: Loopback) -> None:
    call = await held(client, server, "how is the weather")
    assert call.asked == ["Bern"]
    assert heard(server, call)[-1] == "yes rain"
    roles = [role for role, _ in message_texts(fakes(server).llm.prompts[-1])]
    assert roles[-3:] == ["user", "assistant", "tool"]


async def test_two_tool_calls_in_one_reply(client: str, server: Loopback) -> None:
    call = await held(client, server, "in both how is the weather")
    assert sorted(call.asked) == ["Bern", "Rome"]
    assert heard(server, call)[-1] == "yes rain"
    roles = [role for role, _ in message_texts(fakes(server).llm.prompts[-1])]
    assert roles.count("tool") == 2


@pytest.fixture(scope="module")
def events() -> list[str]:
    """Every event of every call of the session's tests."""
    with pytest.MonkeyPatch.context() as patch:
        sent: list[str] = []
        patch.setattr(Client, "log", sent)
        for script in session_scripts().values():
            script()
    return sent


@pytest.mark.parametrize("reader", ["pipecat_events.py", "events.mjs"])
def test_every_event_can_be_read(reader: str, request: pytest.FixtureRequest) -> None:
    run = command(reader)
    sent: list[str] = request.getfixturevalue("events")
    assert len(sent) > 1000
    text = "\n".join(sent)
    read = subprocess.run(run, input=text, text=True, capture_output=True, check=False)  # noqa: S603
    assert (read.stdout.splitlines(), read.returncode) == ([f"{len(sent)} read"], 0), read.stderr
