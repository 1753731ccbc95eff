"""What clients do wrong, through whole calls: each gives its error, and the call goes on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from assistant.config import Config, ServerConfig
from speech.interfaces import Audio
from tests.calls import AUDIO, RATE, TRANSCRIBED, Client, call, during_a_reply, message, storyteller
from tests.fakes import Event, FakeEngines, FakeVad, message_texts, pcm16


def after_error(mistake: Callable[[Client], None], **kwargs: Any) -> Event:
    """The one error that `mistake` gives; a spoken turn must still work after it."""

    async def script(client: Client) -> None:
        mistake(client)
        await client.until("error")
        await client.say("what is the time")
        await client.until("response.done")

    client = call(script, **kwargs)
    (error,) = client.all("error")
    assert client.heard() == "you said what is the time that is all"
    body: Event = error["error"]
    assert body["type"] == "invalid_request_error"
    return body


def tells(kind: str, **fields: Any) -> Callable[[Client], None]:
    return lambda client: client.tell(kind, event_id="mine", **fields)


@pytest.mark.parametrize(
    ("mistake", "code", "param", "words"),
    [
        (tells("response.creat"), "unknown_event", "type", "did you mean response.create"),
        (
            tells("input_audio_buffer.append", audio="not base64!"),
            "invalid_value",
            "audio",
            "expected base64",
        ),
        (
            tells("input_audio_buffer.append", audio="A" * 30_000),
            "message_too_large",
            None,
            "at most 24000 bytes, got 300",
        ),
        (
            tells("conversation.item.create", item=message("x" * 2000)),
            "message_too_large",
            None,
            "at most 1500 bytes, got 21",
        ),
        (
            tells("conversation.item.retrieve", item_id="item_9"),
            "item_retrieve_invalid_item_id",
            "item_id",
            "got 'item_9'",
        ),
        (
            tells("conversation.item.delete", item_id="item_9"),
            "item_delete_invalid_item_id",
            "item_id",
            "got 'item_9'",
        ),
        (
            tells("conversation.item.truncate", item_id="item_9", audio_end_ms=100),
            "item_truncate_invalid_item_id",
            "item_id",
            "got 'item_9'",
        ),
        (
            tells("conversation.item.truncate", item_id="item_9", audio_end_ms=-1),
            "invalid_value",
            "audio_end_ms",
            ">= 0",
        ),
        (
            tells("conversation.item.create", item=message("x"), previous_item_id="item_9"),
            "item_create_invalid_previous_item_id",
            "previous_item_id",
            "got 'item_9'",
        ),
        (
            tells("conversation.item.create", item={"type": "poem"}),
            "invalid_value",
            "item.type",
            "got 'poem'",
        ),
        (
            tells("response.cancel"),
            "response_cancel_not_active",
            None,
            "Cancellation failed",
        ),
        (
            tells("input_audio_buffer.commit"),
            "input_audio_buffer_commit_empty",
            None,
            "at least 100 ms",
        ),
        (
            tells("session.update", session={"type": "realtime", "max_output_tokens": -3}),
            "invalid_value",
            "session.max_output_tokens",
            "got -3",
        ),
        (
            tells("response.create", response={"input": [{"type": "poem"}]}),
            "invalid_value",
            "item.type",
            "got 'poem'",
        ),
    ],
)
def test_bad_input_gets_an_error_and_the_call_goes_on(
    mistake: Callable[[Client], None], code: str, param: str | None, words: str
) -> None:
    config = Config(server=ServerConfig(max_frame_bytes=1500))
    chunk = 0.02  # so that the audio itself keeps within the limit

    def briefly(client: Client) -> None:
        client.chunk = chunk
        mistake(client)

    error = after_error(briefly, config=config)
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
    assert words in error["message"]


def test_a_stream_may_be_cut_in_the_middle_of_samples() -> None:
    async def script(client: Client) -> None:
        pcm = pcm16(client.engines.code.audio("is it the time", RATE)).tobytes()
        for at in range(0, len(pcm), 333):
            client.append(pcm[at : at + 333])
        await client.until("response.done")

    client = call(script)
    assert client.heard() == "you said is it the time that is all"
    assert not client.all("error")


def test_what_was_cleared_leaves_no_half_a_sample() -> None:
    async def script(client: Client) -> None:
        client.configure(turn_detection=None)
        client.append(b"abc")
        client.tell("input_audio_buffer.clear")
        await client.say("is it the time")
        client.tell("input_audio_buffer.commit")
        await client.until(TRANSCRIBED)

    (words,) = call(script).all(TRANSCRIBED)
    assert words["transcript"] == "is it the time"


@pytest.mark.parametrize("detection", [None, {"type": "server_vad"}])
def test_a_long_recording_in_one_append(detection: Event | None) -> None:
    """A minute, of which the ear keeps no more than forty seconds at a time."""
    said = " ".join(f"word{n % 30}" for n in range(240))

    async def script(client: Client) -> None:
        client.configure(turn_detection=detection)
        client.append(pcm16(client.engines.code.audio(said, RATE)).tobytes())
        if detection is None:
            client.tell("input_audio_buffer.commit")
        await client.until(TRANSCRIBED)

    (words,) = call(script).all(TRANSCRIBED)
    assert words["transcript"] == said
    assert words["usage"]["seconds"] > 59


def test_what_is_no_json_has_no_id_to_echo() -> None:
    error = after_error(lambda client: client.raw('{"event_id": "mine", "type": '))
    assert (error["code"], error["event_id"]) == ("invalid_json", None)


def test_an_items_id_is_used_once() -> None:
    def mistake(client: Client) -> None:
        client.tell("conversation.item.create", item=message("x", id="a"))
        client.tell("conversation.item.create", item=message("y", id="a"), event_id="mine")
        client.tell("conversation.item.delete", item_id="a")

    error = after_error(mistake)
    assert (error["code"], error["event_id"]) == ("item_create_duplicate_item_id", "mine")


def test_a_fault_of_the_server_names_the_event_too() -> None:
    class Broken(FakeVad):
        def open(self) -> Broken:
            return self

        def probability(self, frame: Audio) -> float:
            raise ZeroDivisionError

    async def script(client: Client) -> None:
        audio = base64.b64encode(bytes(9600)).decode()
        client.tell("input_audio_buffer.append", event_id="mine", audio=audio)
        client.configure(turn_detection=None)
        await asyncio.sleep(1)

    engines = FakeEngines()
    engines.vad = Broken()
    client = call(script, engines=engines)
    (error,) = client.all("error")
    body = error["error"]
    found = body["type"], body["code"], body["event_id"], body["message"]
    message = "ZeroDivisionError in the server; see its log"
    assert found == ("server_error", "internal_error", "mine", message)
    assert client.kinds()[-1] == "session.updated"


# --- while a reply is under way ---------------------------------------------------------------


def test_a_second_reply_is_refused_while_one_is_active() -> None:
    async def act(client: Client) -> None:
        client.tell("response.create", event_id="mine")

    client, done = during_a_reply(act)
    (error,) = client.all("error")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "mine"
    assert done["status"] == "completed"
    assert len(client.all("response.created")) == 1
    assert client.session.asked == {}


def test_items_are_served_while_a_reply_is_spoken() -> None:
    async def act(client: Client) -> None:
        (asked,) = client.all(TRANSCRIBED)
        client.tell("conversation.item.create", item=message("x", id="a"))
        client.tell("conversation.item.retrieve", item_id=asked["item_id"])
        client.tell("conversation.item.delete", item_id="a")
        await asyncio.sleep(0.01)
        assert client.all("conversation.item.retrieved")[0]["item"]["content"] == [
            {"type": "input_audio", "transcript": "tell me a story"}
        ]
        assert client.all("conversation.item.deleted")[0]["item_id"] == "a"

    client, done = during_a_reply(act)
    assert not client.all("error")
    assert done["status"] == "completed"
    assert client.heard().split()[-1] == "end"


def test_the_item_that_is_being_spoken_can_be_deleted() -> None:
    async def act(client: Client) -> None:
        (delta, *_) = client.all(AUDIO)
        client.tell("conversation.item.delete", item_id=delta["item_id"])

    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until(AUDIO, 25)
        await act(client)
        await client.until("response.done")
        await client.quiet(2)
        await client.say("and now")
        await client.quiet(2)
        await client.until("response.done", 2)

    client = call(script, engines=storyteller())
    assert not client.all("error")
    roles = [role for role, _ in message_texts(client.engines.llm.prompts[-1])]
    assert roles == ["system", "user"]


def test_settings_change_while_a_reply_is_spoken() -> None:
    async def act(client: Client) -> None:
        client.tell(
            "session.update",
            session={
                "type": "realtime",
                "instructions": "Be brief.",
                "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "other"}},
            },
        )

    client, done = during_a_reply(act)
    assert done["status"] == "completed"
    assert done["audio"]["output"]["format"]["type"] == "audio/pcm"
    assert client.heard().split() == [*(f"word{n}" for n in range(20)), "end"]
    (updated,) = client.all("session.updated")
    assert updated["session"]["audio"]["output"]["format"] == {"type": "audio/pcmu"}


def test_only_the_response_that_is_named_is_cancelled() -> None:
    async def act(client: Client) -> None:
        client.tell("response.cancel", response_id="resp_gone", event_id="mine")
        await client.until("error")
        assert not client.all("response.done")
        (created,) = client.all("response.created")
        client.tell("response.cancel", response_id=created["response"]["id"])

    client, done = during_a_reply(act)
    (error,) = client.all("error")
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"].startswith("Cancellation failed")
    assert "resp_gone" in error["error"]["message"]
    assert error["error"]["event_id"] == "mine"
    assert done["status"] == "cancelled"
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


def test_clearing_the_output_cancels_and_is_no_error_without_a_reply() -> None:
    async def act(client: Client) -> None:
        client.tell("output_audio_buffer.clear")
        await client.until("response.done")
        client.tell("output_audio_buffer.clear")
        await client.quiet(1)

    client, done = during_a_reply(act)
    assert done["status_details"]["reason"] == "client_cancelled"
    assert not client.all("error")
