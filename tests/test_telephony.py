"""A scripted Twilio peer, made from its documentation, holds calls with real sessions."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assistant.config import CallConfig, Config, Secret, ServerConfig, TelephonyConfig
from assistant.conversation import INTERRUPTED
from assistant.http_common import ApiError
from assistant.session import Session
from assistant.telephony import Bridge, TwilioTransport, check_signature, session_settings
from assistant.wire import twilio
from assistant.wire.errors import WireError
from llm.interfaces import Finished, Prompt, TextDelta
from speech.audio import ulaw_encode
from tests.fakes import FakeEngines, message_texts, pcm16
from tests.loopback import NamedEngines, serving
from tests.phone import PACKET, RATE, Phone, dtmf, media, start
from tests.test_server import closing
from tests.virtual import run

TOKEN = "a-twilio-token"
URL = "wss://voice.example/telephony/twilio"


def story(prompt: Prompt) -> list[Any]:
    """Few words: mu-law is too coarse for the levels of many."""
    return [*(TextDelta(f"w{n} ") for n in range(12)), Finished("stop")]


def call(
    script: Callable[[Phone], Awaitable[None]],
    engines: FakeEngines,
    latency: float = 0.0,
    config: Config | None = None,
) -> Session:
    async def whole() -> Session:
        phone = Phone(engines, latency)
        begun = twilio.decode(json.dumps(start(instructions="be brief")))
        assert isinstance(begun, twilio.Start)
        transport = TwilioTransport(phone, begun)
        settings = session_settings(begun)
        session = Session(transport, engines, config or Config(), session=settings)  # type: ignore[arg-type]  # fakes
        running = asyncio.create_task(session.run())
        await script(phone)
        await phone.hang_up()
        await running
        assert engines.llm.free == 4
        return session

    return run(whole())


def texts(session: Session) -> list[tuple[str, str, str]]:
    """Role, status and text of each item."""
    items = [item.to_wire() for item in session.memory.conversation.latest()]
    parts = [(item, item["content"][0]) for item in items]
    return [
        (item["role"], item["status"], part.get("transcript", part.get("text")))
        for item, part in parts
    ]


# --- calls ------------------------------------------------------------------------------------


def test_a_turn_is_heard_and_answered() -> None:
    async def script(phone: Phone) -> None:
        await phone.say("hello there")
        await phone.until(lambda: "all" in phone.heard)

    engines = FakeEngines()
    session = call(script, engines, latency=0.1)
    assert message_texts(engines.llm.prompts[-1]) == [
        ("system", "be brief"),
        ("user", "hello there"),
    ]
    assert texts(session)[1] == ("assistant", "completed", "you said hello there. that is all.")


@pytest.mark.parametrize(
    ("latency", "lead_ms", "unheard"),
    [
        # Before it is clear that the caller takes the floor, all has been played: nothing to clear.
        (0.0, 20, 0),
        # With a long lead, or on a slow line, words are on their way that are never heard.
        (0.0, 1200, 2),
        (0.4, 250, 2),
    ],
)
def test_what_was_heard_of_an_interrupted_reply_follows_the_marks(
    latency: float, lead_ms: int, unheard: int
) -> None:
    phones: list[Phone] = []

    async def script(phone: Phone) -> None:
        phones.append(phone)
        await phone.say("story")
        await phone.until(lambda: "w3" in phone.heard)
        await phone.say("stop now stop now")
        await phone.until(lambda: len(engines.llm.prompts) == 2)
        await phone.quiet(0.5)

    engines = FakeEngines()
    engines.llm.script = story
    session = call(script, engines, latency, Config(call=CallConfig(lead_ms=lead_ms)))
    (phone,) = phones
    role, status, heard = texts(session)[1]
    assert (role, status) == ("assistant", "incomplete")
    assert "w3" in heard
    assert phone.heard.startswith(heard.strip())
    proved, sent = phone.interrupted or (heard, heard)
    assert heard.split() == proved.split()
    assert len(sent.split()) >= len(proved.split()) + unheard
    assert phone.cleared == (unheard > 0)
    assert engines.llm.prompts[1].messages[2].content == heard.rstrip() + INTERRUPTED


def test_lost_packets_are_silence_and_words_around_them_are_kept() -> None:
    async def script(phone: Phone) -> None:
        await phone.quiet(0.4)
        # The third word of four, 12.5 packets a word, never arrives.
        await phone.say("one two three four", lost=range(25, 38))
        await phone.until(lambda: "all" in phone.heard)

    engines = FakeEngines()
    session = call(script, engines)
    assert texts(session)[0][2] == "one two four"


def test_a_key_interrupts_and_is_answered() -> None:
    asked: list[str] = []

    def script_of_model(prompt: Prompt) -> Any:
        asked.append(prompt.messages[-1].content)
        if "pressed" in asked[-1]:
            return [TextDelta("five."), Finished("stop")]
        return story(prompt)

    async def script(phone: Phone) -> None:
        await phone.say("story")
        await phone.until(lambda: "w5" in phone.heard)
        phone.tell(dtmf("5"))
        await phone.until(lambda: "five" in phone.heard)

    engines = FakeEngines()
    engines.llm.script = script_of_model
    session = call(script, engines, latency=0.1)
    assert asked[-1] == "[The caller pressed 5.]"
    told, key, answer = texts(session)[1:]
    assert told[:2] == ("assistant", "incomplete")
    assert told[2].split()[-1] in {"w5", "w6"}
    assert key == ("user", "completed", "[The caller pressed 5.]")
    assert answer[2] == "five."


# --- pure -------------------------------------------------------------------------------------


def appended(bridge: Bridge, timestamp: int, size: int = PACKET) -> bytes:
    message = twilio.decode(json.dumps(media(timestamp, b"\x00" * size)))
    (_, (event,)) = bridge.from_phone(message)
    return base64.b64decode(event["audio"])


def test_gaps_are_filled_to_the_sample_and_jitter_is_not() -> None:
    bridge = Bridge("MZ1")
    assert len(appended(bridge, 35)) == PACKET  # wherever the stream begins
    assert len(appended(bridge, 60)) == PACKET  # 5 ms late
    assert appended(bridge, 115) == b"\xff" * 2 * PACKET + b"\x00" * PACKET
    assert len(appended(bridge, 110)) == PACKET  # early
    assert len(appended(bridge, 155)) == PACKET
    assert len(appended(bridge, 60_000)) == 2000 * 8 + PACKET  # no loss: a line on hold
    assert len(appended(bridge, 60_020)) == PACKET


def test_only_the_caller_is_heard_and_bad_messages_are_named() -> None:
    message = twilio.decode(json.dumps(media(0, b"\x00", track="outbound")))
    assert Bridge("MZ1").from_phone(message) == ([], [])
    other = start()
    other["start"]["mediaFormat"]["encoding"] = "audio/l16"
    for raw in ("{}", "x", '{"event": "new"}', '{"event": "media"}', json.dumps(other)):
        with pytest.raises(WireError, match="expected"):
            twilio.decode(raw)
    bad = twilio.decode('{"event":"media","media":{"payload":"?","timestamp":"5"}}')
    with pytest.raises(WireError, match="expected base64"):
        Bridge("MZ1").from_phone(bad)


def test_marks_prove_what_was_played_until_a_clear() -> None:
    bridge = Bridge("MZ1")
    second = base64.b64encode(b"\x00" * RATE).decode()

    def sends(item: str) -> str:
        delta = {"type": "response.output_audio.delta", "item_id": item, "delta": second}
        messages, _ = bridge.to_phone(delta)
        sound, mark = map(json.loads, messages)
        assert sound["media"] == {"payload": second}
        return str(mark["mark"]["name"])

    def returns(name: str) -> None:
        assert bridge.from_phone(twilio.Mark(mark=twilio._Name(name))) == ([], [])

    started = {"type": "input_audio_buffer.speech_started"}
    assert bridge.to_phone(started) == ([], [])
    first, _, third = sends("a"), sends("a"), sends("a")
    returns(first)
    last = sends("b")
    messages, events = bridge.to_phone(started)
    assert [json.loads(m)["event"] for m in messages] == ["clear"]
    assert [(e["item_id"], e["audio_end_ms"]) for e in events] == [("a", 1000), ("b", 0)]
    for name in (third, last):
        returns(name)
    assert bridge.to_phone(started) == ([], [])
    sends("b")
    (_, (event,)) = bridge.to_phone({"type": "response.done", "response": {"status": "cancelled"}})
    assert event["audio_end_ms"] == 0


def test_parameters_of_the_twiml_begin_the_session() -> None:
    begun = twilio.decode(json.dumps(start(voice="af_heart", language="de", other="x")))
    assert isinstance(begun, twilio.Start)
    form = {"type": "audio/pcmu"}
    assert session_settings(begun) == {
        "audio": {
            "input": {"format": form, "transcription": {"language": "de"}},
            "output": {"format": form, "voice": "af_heart"},
        }
    }


# --- on loopback ------------------------------------------------------------------------------


def signature(url: str, token: str = TOKEN) -> dict[str, str]:
    digest = hmac.digest(token.encode(), url.encode(), "sha1")
    return {"x-twilio-signature": base64.b64encode(digest).decode()}


def test_the_signature_is_of_the_url_that_the_twiml_has() -> None:
    # Computed with openssl: printf %s URL | openssl dgst -sha1 -hmac TOKEN -binary | base64
    known = {"x-twilio-signature": "fdfbC72Xqwt3wFbsrS/NM2zAYZ0="}
    config = TelephonyConfig(twilio_auth_token=Secret(TOKEN))
    check_signature(config, {"host": "voice.example", **known})
    check_signature(config, {"host": "voice.example", **signature(URL)})
    with_port = "wss://voice.example:443/telephony/twilio"
    check_signature(config, {"host": "voice.example", **signature(with_port)})
    told = TelephonyConfig(twilio_auth_token=Secret(TOKEN), twilio_url=URL)
    check_signature(told, {"host": "10.0.0.1:8470", **signature(URL)})
    for headers in (
        {"host": "voice.example"},
        {"host": "voice.example", **signature(URL, "another")},
        {"host": "other.example", **signature(URL)},
    ):
        with pytest.raises(ApiError, match="expected Twilio's signature of wss://") as refused:
            check_signature(config, headers)
        assert refused.value.status == 403
        assert TOKEN not in refused.value.message


async def test_a_call_on_a_socket_of_the_server() -> None:
    token = TelephonyConfig(twilio_auth_token=Secret(TOKEN), twilio_url=URL)
    config = Config(server=ServerConfig(port=0, api_key=Secret("key")), telephony=token)
    engines = NamedEngines(cost=0.01)
    async with serving(engines, config) as server:
        url = f"ws://{server.host}/telephony/twilio"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers={"Authorization": "Bearer key"})
        assert refused.value.response.status_code == 403
        async with connect(url, additional_headers=signature(URL)) as line:
            await line.send(json.dumps({"event": "connected", "protocol": "Call"}))
            await line.send(json.dumps(start()))
            spoken = np.concatenate([engines.code.audio("hello", RATE), np.zeros(RATE, np.float32)])
            for at in range(0, len(spoken), PACKET):
                sound = ulaw_encode(pcm16(spoken[at : at + PACKET]))
                await line.send(json.dumps(media(at // 8, sound)))
            async with asyncio.timeout(20):
                first, second = json.loads(await line.recv()), json.loads(await line.recv())
            assert (first["event"], second["event"]) == ("media", "mark")
            assert first["streamSid"] == "MZ1"
            await line.send(json.dumps({"event": "stop", "streamSid": "MZ1"}))
            assert await closing(line) == (1000, "")
        await server.empty()
        async with connect(url, additional_headers=signature(URL)) as line:
            await line.send("{}")
            code, reason = await closing(line)
            assert (code, reason[:28]) == (1003, "expected a Twilio Media Stre")


async def test_without_a_token_the_key_is_asked_for() -> None:
    config = Config(server=ServerConfig(port=0, api_key=Secret("key")))
    async with serving(NamedEngines(), config) as server:
        url = f"ws://{server.host}/telephony/twilio"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=signature(URL))
        assert refused.value.response.status_code == 401
        async with connect(url, additional_headers={"api-key": "key"}) as line:
            await line.send(json.dumps(start()))


async def test_one_call_too_many_is_closed_without_a_word_that_twilio_does_not_know() -> None:
    async with serving(NamedEngines(), Config(server=ServerConfig(port=0, max_calls=1))) as server:
        url = f"ws://{server.host}/telephony/twilio"
        async with connect(url) as first, connect(url) as second:
            await first.send(json.dumps(start()))
            while not server.service.calls:  # noqa: ASYNC110  # seen from outside
                await asyncio.sleep(0.005)
            await second.send(json.dumps(start()))
            with pytest.raises(ConnectionClosed):
                await second.recv()
            assert second.close_code == 1013
