"""Calls that lose their connection: the real server and clients over loopback, in virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assistant.clients.wav import RATE, CallError, WavCaller
from assistant.config import Config, ServerConfig, TurnSettings
from assistant.resume import ResumableLine
from assistant.session import EXTENSION
from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta, ToolCall
from speech.audio import to_float
from tests.fakes import Event, FakeEngines, echo, pcm16
from tests.loopback import Loopback, NamedEngines, serving
from tests.proxy import Proxy, proxied
from tests.virtual import run

TOOLS = [{"type": "function", "name": "search", "parameters": {"type": "object"}}]
CALL_LASTS = 12.0
"""Seconds of the call in whole_call(), undisturbed."""
SAID = ["alpha bravo charlie delta", "search golf hotel", "kilo lima mike november"]
ANSWERED = [
    "you said alpha bravo charlie delta that is all",
    "found sierra tango uniform victor",
    "you said kilo lima mike november that is all",
]


def script(prompt: Prompt) -> Iterable[ReplyPart | Exception | float]:
    """Searches when it is asked to, and says what was found."""
    last = prompt.messages[-1]
    if last.role == "tool":
        return [TextDelta(f"found {last.content}."), Finished("stop")]
    if "search" in last.content:
        return [ToolCall("call_1", "search", "{}"), Finished("stop")]
    return echo(prompt)


@asynccontextmanager
async def network(
    **settings: Any,
) -> AsyncIterator[tuple[Loopback, Proxy, FakeEngines]]:
    engines = NamedEngines()
    engines.llm.script = script
    # A sentence that ends early on purpose is another test's.
    turns = TurnSettings(tool_wait_ms=0, idle_ms=settings.pop("idle_ms", 40_000))
    config = Config(server=ServerConfig(port=0, **settings), turns=turns)
    async with serving(engines, config) as server, proxied(server.host) as net:
        yield server, net, engines


def url(net: Proxy, **query: Any) -> str:
    given = "&".join(f"{name}={value}" for name, value in query.items())
    return f"ws://{net.host}/v1/realtime?{given}"


async def whole_call(caller: WavCaller, engines: FakeEngines) -> None:
    """Two turns that are echoed, and between them one that needs a tool which takes a second."""

    async def ask(text: str) -> None:
        await asyncio.sleep(0.3)
        caller.say(pcm16(engines.code.audio(text, RATE)))
        await caller.wait_for("response.done", 60)
        await caller.played_out()

    await ask(SAID[0])
    await ask(SAID[1])
    call = await caller.wait_for("response.function_call_arguments.done", 1)
    await asyncio.sleep(1.0)
    found = ANSWERED[1].removeprefix("found ")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": found}
    await caller.send({"type": "conversation.item.create", "item": output})
    await caller.send({"type": "response.create"})
    await caller.wait_for("response.done", 60)
    await caller.played_out()
    await ask(SAID[2])


def transcripts(caller: WavCaller) -> list[str]:
    kind = "conversation.item.input_audio_transcription.completed"
    return [event["transcript"] for _, event in caller.events if event["type"] == kind]


def heard(caller: WavCaller, engines: FakeEngines) -> list[str]:
    """The words that came out of the loudspeaker, reply by reply."""
    items = dict.fromkeys(part.item_id for part in caller.speaker.played)
    audio = [
        np.concatenate([part.pcm for part in caller.speaker.played if part.item_id == item_id])
        for item_id in items
    ]
    return [engines.code.text(to_float(pcm), RATE) for pcm in audio]


def numbers(caller: WavCaller) -> list[int]:
    return [event["seq"] for _, event in caller.events if "seq" in event]


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_anywhere_loses_and_doubles_no_word(seed: int) -> None:
    chance = random.Random(seed)  # which second of a call is no secret
    at, away = chance.uniform(0, CALL_LASTS), chance.choice([0.0, 0.3, 3.0, 12.0])

    async def cut(net: Proxy) -> None:
        await asyncio.sleep(at)
        net.up = False
        net.cut()
        await asyncio.sleep(away)
        net.up = True

    async def whole() -> None:
        async with network() as (server, net, engines):
            session = {"tools": TOOLS}
            async with WavCaller(url(net), session=session) as caller:
                cutting = asyncio.create_task(cut(net))
                await whole_call(caller, engines)
                await cutting
                assert net.carried == 2, "the connection was not cut during the call"
                assert transcripts(caller) == SAID
                assert heard(caller, engines) == ANSWERED
                assert numbers(caller) == list(range(1, len(numbers(caller)) + 1))
                told = engines.llm.prompts[-1].messages
                assert [m.content for m in told if m.role == "user"] == SAID
                assert sum(m.role == "tool" for m in told) == 1
                [line] = server.service.calls
            await server.empty()
            assert isinstance(line, ResumableLine)
            assert line._taken_in == caller.line._connection._count, "each event of ours once"
            assert engines.llm.free == 4

    run(whole())


@pytest.mark.parametrize("seed", range(5))
def test_a_connection_that_dies_silently_loses_no_word_of_the_caller(seed: int) -> None:
    """Half-open: the client finds out by its pings, the server when the client is back. Of a reply
    that the caller then talks into, the rest is rightly not heard."""
    chance = random.Random(seed)  # which second of a call is no secret
    at = chance.uniform(0, 5)

    async def stall(net: Proxy) -> None:
        await asyncio.sleep(at)
        net.stall()

    async def whole() -> None:
        async with network() as (server, net, engines):
            async with WavCaller(url(net)) as caller:
                stalling = asyncio.create_task(stall(net))
                for text in (SAID[0], SAID[2]):
                    await asyncio.sleep(0.3)
                    caller.say(pcm16(engines.code.audio(text, RATE)))
                    await asyncio.sleep(15)
                await stalling
                assert net.carried == 2, "the connection did not stall during the call"
                assert " ".join(transcripts(caller)) == f"{SAID[0]} {SAID[2]}"
                assert numbers(caller) == list(range(1, len(numbers(caller)) + 1))
            await server.empty()

    run(whole())


def test_nobody_is_asked_whether_they_are_there_while_they_cannot_answer() -> None:
    async def whole() -> None:
        async with network(idle_ms=3000) as (_server, net, engines), WavCaller(url(net)) as caller:
            caller.say(pcm16(engines.code.audio("hello there", RATE)))
            await caller.wait_for("response.done", 20)
            await caller.played_out()
            net.up = False
            net.cut()
            await asyncio.sleep(25)
            net.up = True
            back = caller.now
            await caller.wait_for("response.created", 20)
            await caller.wait_for("response.created", 20)
            created = [at for at, event in caller.events if event["type"] == "response.created"]
            assert len(created) == 2
            assert created[1] > back + 2

    run(whole())


@pytest.mark.parametrize("noticed", [True, False])
def test_nothing_is_heard_of_a_reply_while_nobody_is_there(noticed: bool) -> None:
    """A second of a reply of five arrives; three seconds later the client is back, and stops it."""

    async def whole() -> None:
        async with network() as (_server, net, engines):
            engines.llm.script = lambda _: [TextDelta(f"word{n} ") for n in range(20)]
            ws, created = await begin(net)
            await ws.send(json.dumps({"type": "response.create"}))
            item_id = (await read(ws, "response.output_audio.delta"))["item_id"]
            for _ in range(24):
                last = await read(ws, "response.output_audio.delta")
            if noticed:
                net.cut()
            await asyncio.sleep(3)
            ws, _resumed = await begin(net, resume=token(created), after=last["seq"])
            await ws.send(json.dumps({"type": "response.cancel"}))
            await read(ws, "response.done")
            retrieve = {"type": "conversation.item.retrieve", "item_id": item_id}
            await ws.send(json.dumps(retrieve))
            item = (await read(ws, "conversation.item.retrieved"))["item"]
            assert 3 <= len(item["content"][0]["transcript"].split()) <= 6

    run(whole())


# --- who may come back, and when --------------------------------------------------------------


async def begin(net: Proxy, **query: Any) -> tuple[ClientConnection, Event]:
    """A call, and its session.created."""
    ws = await connect(url(net, ext=EXTENSION, **query), max_queue=None)
    return ws, await read(ws)


async def read(ws: ClientConnection, *kinds: str) -> Event:
    """The next event of one of these kinds, or of any."""
    while True:
        event: Event = json.loads(await ws.recv())
        if not kinds or event["type"] in kinds:
            return event


async def refusal(net: Proxy, **query: Any) -> tuple[int, str]:
    """Status and message with which coming back is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(url(net, ext=EXTENSION, **query))
    body = json.loads(caught.value.response.body)
    return caught.value.response.status_code, body["error"]["message"]


def token(event: Event) -> str:
    resume = event.get("resume") or event["session"]["conch"]["resume"]
    given: str = resume["token"]
    return given


async def closed(ws: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await read(ws, "nothing")
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_a_token_opens_its_call_once_and_is_never_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def whole() -> None:
        async with network(resume_s=10) as (server, net, _engines):
            _ws, created = await begin(net)
            assert created["session"]["conch"]["resume"]["grace_s"] == 10
            assert created["seq"] == 1
            first = token(created)
            net.cut()
            _ws, resumed = await begin(net, resume=first, after=1)
            assert resumed.pop("event_id")
            second = token(resumed)
            assert resumed == {
                "type": "conch.session.resumed",
                "resume": {"token": second, "grace_s": 10},
                "input_audio_ms": 0,
                "input_events": 0,
            }
            assert second != first
            assert await refusal(net, resume=first, after=1) == (
                404,
                "the resume token has been used; each opens its call once",
            )
            unknown = await refusal(net, resume="nonsense", after=1)
            assert unknown == (404, "expected the resume token of a call, got another one")
            assert (await refusal(net, resume=second, after="x"))[0] == 400
            net.cut()
            await asyncio.sleep(11)
            late = await refusal(net, resume=second, after=1)
            assert late == (404, "the call is over: nobody came back within 10 s")
            await server.empty()
            for secret in (first, second):
                assert secret not in caplog.text

    run(whole())


def test_a_page_that_may_not_ask_may_not_come_back_either() -> None:
    async def whole() -> None:
        async with network() as (_server, net, _engines):
            _ws, created = await begin(net)
            again = url(net, ext=EXTENSION, resume=token(created), after=1)
            with pytest.raises(InvalidStatus) as caught:
                await connect(again, origin="https://elsewhere.example")  # type: ignore[arg-type]
            assert caught.value.response.status_code == 403
            _ws, resumed = await begin(net, resume=token(created), after=1)
            assert resumed["type"] == "conch.session.resumed"

    run(whole())


def test_who_hangs_up_is_not_waited_for() -> None:
    async def whole() -> None:
        async with network() as (server, net, engines):
            for code in (1000, 1001):
                ws, created = await begin(net)
                await ws.close(code)
                await server.empty()
                refused = await refusal(net, resume=token(created), after=1)
                assert refused == (404, "the caller has hung up")
            assert engines.llm.free == 4

    run(whole())


def test_a_stock_client_is_neither_numbered_nor_waited_for() -> None:
    async def whole() -> None:
        async with network() as (server, net, engines):
            ws = await connect(url(net))
            created = await read(ws)
            assert "seq" not in created
            assert "resume" not in created["session"]["conch"]
            net.cut()
            await server.empty()
            assert engines.llm.free == 4

    run(whole())


def test_calls_can_be_told_not_to_wait() -> None:
    async def whole() -> None:
        async with network(resume_s=0) as (server, net, _engines):
            _ws, created = await begin(net)
            assert "resume" not in created["session"]["conch"]
            net.cut()
            await server.empty()

    run(whole())


def test_a_waiting_call_counts_until_it_ends() -> None:
    async def whole() -> None:
        async with network(max_calls=1) as (_server, net, _engines):
            _ws, _ = await begin(net)
            net.cut()
            await asyncio.sleep(1)
            second, refused = await begin(net)
            assert refused["error"]["code"] == "too_many_calls"
            assert (await closed(second))[0] == 1013
            await asyncio.sleep(30)
            _third, created = await begin(net)
            assert created["type"] == "session.created"

    run(whole())


def test_a_server_that_stops_ends_waiting_calls() -> None:
    async def whole() -> None:
        loop = asyncio.get_running_loop()
        async with network() as (server, net, engines):
            await begin(net)
            net.cut()
            await asyncio.sleep(1)
            assert server.service.calls
            began = loop.time()
        assert loop.time() - began < 1.5
        assert engines.llm.free == 4

    run(whole())


def test_who_is_back_before_the_drop_is_noticed_takes_over() -> None:
    async def whole() -> None:
        async with network() as (server, net, _engines):
            old, created = await begin(net)
            new, resumed = await begin(net, resume=token(created), after=1)
            assert resumed["type"] == "conch.session.resumed"
            assert await closed(old) == (4000, "the call goes on over another connection")
            await new.send(json.dumps({"type": "input_audio_buffer.clear"}))
            assert (await read(new))["seq"] == 2
            assert len(server.service.calls) == 1
            net.cut()
            _newest, resumed = await begin(net, resume=token(resumed), after=2)
            assert resumed["input_events"] == 1

    run(whole())


def test_a_client_that_has_its_doubts_about_the_connection_does_not_hang_up() -> None:
    async def whole() -> None:
        async with network() as (_server, net, _engines):
            ws, created = await begin(net)
            await ws.close(4001)
            _ws, resumed = await begin(net, resume=token(created), after=1)
            assert resumed["type"] == "conch.session.resumed"

    run(whole())


def long_text(prompt: Prompt) -> Iterable[ReplyPart | Exception | float]:
    return [*(TextDelta(f"word{n} ") for n in range(1000)), Finished("stop")]


async def ask_for_text(ws: ClientConnection) -> None:
    response = {"output_modalities": ["text"]}
    await ws.send(json.dumps({"type": "response.create", "response": response}))
    await read(ws, "response.created")


def test_what_does_not_fit_ends_the_wait_with_a_reason() -> None:
    async def whole() -> None:
        async with network(send_buffer_bytes=65_536) as (server, net, engines):
            engines.llm.script = long_text
            ws, created = await begin(net)
            await ask_for_text(ws)
            net.cut()
            await asyncio.sleep(15)
            await server.empty()
            refused = await refusal(net, resume=token(created), after=2)
            assert refused == (404, "over 65536 bytes wait for the client")

    run(whole())


def test_events_that_are_no_longer_kept_cannot_be_missed() -> None:
    async def whole() -> None:
        async with network(send_buffer_bytes=65_536) as (server, net, engines):
            engines.llm.script = long_text
            ws, created = await begin(net)
            await ask_for_text(ws)
            done = await read(ws, "response.done")
            net.cut()
            status, message = await refusal(net, resume=token(created), after=2)
            assert status == 404
            assert message.startswith("events after 2 are no longer kept, the oldest is ")
            oldest = int(message.split()[-1])
            assert 500 < oldest < done["seq"]
            await server.empty()

    run(whole())


def test_a_client_that_cannot_come_back_says_so() -> None:
    async def whole() -> None:
        async with network(resume_s=5) as (_server, net, _engines), WavCaller(url(net)) as caller:
            net.up = False
            net.cut()
            await asyncio.sleep(3)
            net.up = True
            await asyncio.sleep(2.5)
            assert net.carried == 2, "it did not come back the first time"
            net.up = False
            net.cut()
            with pytest.raises(CallError, match="was not there again in time"):
                await caller.wait_for("response.done", 20)

    run(whole())
