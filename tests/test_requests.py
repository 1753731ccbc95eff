"""What clients do wrong, through whole calls: each gives its error, and the call goes on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from assistant.config import Config, ServerConfig
from llm.interfaces import Finished, Prompt, TextDelta
from speech.audio import to_float, ulaw_decode, ulaw_encode
from speech.interfaces import Audio
from tests.calls import Client, call
from tests.fakes import Event, FakeEngines, FakeVad, message_texts

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
AUDIO = "response.output_audio.delta"


def long_story(prompt: Prompt) -> list[Any]:
    return [*(TextDelta(f"word{n} ") for n in range(20)), TextDelta("end."), Finished("stop")]


def storyteller() -> FakeEngines:
    engines = FakeEngines()
    engines.llm.script = long_story
    return engines


def message(text: str, **fields: Any) -> Event:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


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
            tells("input_audio_buffer.append", audio=base64.b64encode(b"abc").decode()),
            "invalid_value",
            "audio",
            "expected whole 16-bit samples, got 3 bytes",
        ),
        (
            tells("input_audio_buffer.append", audio="A" * 2000),
            "message_too_large",
            None,
            "at most 1500 bytes, got 20",
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


def during_a_reply(act: Callable[[Client], Awaitable[None]], **kwargs: Any) -> tuple[Client, Event]:
    """A call in which `act` happens when a second of a long reply is out; and that reply."""

    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until(AUDIO, 25)
        await act(client)
        await client.until("response.done")

    client = call(script, engines=kwargs.pop("engines", None) or storyteller(), **kwargs)
    done: Event = client.all("response.done")[0]["response"]
    return client, done


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


# --- truncating -------------------------------------------------------------------------------


def truncated(audio_end_ms: float) -> tuple[Client, Event, Event]:
    """A cancelled reply, truncated; the event that answers, and the item as it then is."""

    async def act(client: Client) -> None:
        client.tell("response.cancel")
        await client.until("response.done")
        item_id = client.all(AUDIO)[0]["item_id"]
        client.tell("conversation.item.truncate", item_id=item_id, audio_end_ms=audio_end_ms)
        client.tell("conversation.item.retrieve", item_id=item_id)
        client.tell("conversation.item.create", item=message("go on"))
        client.tell("response.create", response={"output_modalities": ["text"]})
        await client.until("response.done", 2)

    client, _ = during_a_reply(act)
    (event,) = client.all("conversation.item.truncated")
    (retrieved,) = client.all("conversation.item.retrieved")
    return client, event, retrieved["item"]


def test_a_truncated_item_keeps_what_was_heard() -> None:
    client, event, item = truncated(800)
    assert event["audio_end_ms"] == 800
    assert item["status"] == "incomplete"
    assert item["content"][0]["transcript"].split() == ["word0", "word1", "word2"]
    told = dict(message_texts(client.engines.llm.prompts[-1]))["assistant"]
    assert told == "word0 word1 word2 [interrupted by the caller here]"


def test_truncating_beyond_what_was_sent_is_all_that_was_sent() -> None:
    client, event, item = truncated(900_000_000)
    sent = sum(len(base64.b64decode(delta["delta"])) for delta in client.all(AUDIO)) // 48
    assert event["audio_end_ms"] == sent
    heard = item["content"][0]["transcript"].split()
    delivered = client.heard().split()
    assert heard == delivered[: len(heard)]
    assert 0 <= len(delivered) - len(heard) <= 1


def test_truncating_what_is_still_being_spoken_does_not_end_it() -> None:
    async def act(client: Client) -> None:
        item_id = client.all(AUDIO)[0]["item_id"]
        client.tell("conversation.item.truncate", item_id=item_id, audio_end_ms=400.4)

    client, done = during_a_reply(act)
    assert not client.all("error")
    (event,) = client.all("conversation.item.truncated")
    assert event["audio_end_ms"] == 400
    assert done["status"] == "completed"


def test_only_an_assistants_message_can_be_truncated() -> None:
    async def script(client: Client) -> None:
        client.tell("conversation.item.create", item=message("x", id="a"))
        client.tell("conversation.item.truncate", item_id="a", audio_end_ms=10, event_id="mine")
        await client.until("error")

    (error,) = call(script).all("error")
    assert error["error"]["code"] == "item_truncate_invalid_item_id"
    assert "assistant message" in error["error"]["message"]


# --- responses --------------------------------------------------------------------------------


def test_an_answer_out_of_band_is_not_remembered() -> None:
    async def script(client: Client) -> None:
        client.tell("conversation.item.create", item=message("remember me"))
        client.tell(
            "response.create",
            response={
                "conversation": "none",
                "output_modalities": ["text"],
                "metadata": {"topic": "aside"},
                "input": [message("only this")],
            },
        )
        await client.until("response.done")
        client.tell("response.create", response={"output_modalities": ["text"]})
        await client.until("response.done", 2)

    client = call(script)
    first, second = client.engines.llm.prompts
    assert message_texts(first)[1:] == [("user", "only this")]
    assert message_texts(second)[1:] == [("user", "remember me")]
    aside = client.all("response.created")[0]["response"]
    assert aside["metadata"] == {"topic": "aside"}
    added = [event["item"]["role"] for event in client.all("conversation.item.added")]
    assert added == ["user", "assistant"]


def test_a_response_can_refer_to_items_by_their_id() -> None:
    async def script(client: Client) -> None:
        client.tell("conversation.item.create", item=message("the first", id="a"))
        client.tell("conversation.item.create", item=message("the second", id="b"))
        client.tell(
            "response.create",
            response={
                "conversation": "none",
                "output_modalities": ["text"],
                "input": [{"type": "item_reference", "id": "a"}, message("and this")],
            },
        )
        await client.until("response.done")
        client.tell(
            "response.create",
            event_id="mine",
            response={"input": [{"type": "item_reference", "id": "gone"}]},
        )
        await client.until("error")

    client = call(script)
    assert message_texts(client.engines.llm.prompts[0])[1:] == [("user", "the first\nand this")]
    (error,) = client.all("error")
    assert (error["error"]["param"], error["error"]["event_id"]) == ("item_id", "mine")
    assert "'gone'" in error["error"]["message"]


def test_a_reply_that_hits_its_limit_is_incomplete() -> None:
    engines = FakeEngines()
    engines.llm.script = lambda _: [TextDelta("one two three"), Finished("length", 10, 0, 3)]

    async def script(client: Client) -> None:
        await client.say("count please")
        await client.until("response.done")

    (done,) = call(script, engines=engines).all("response.done")
    response = done["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 3


# --- coming and going -------------------------------------------------------------------------


def test_a_client_that_vanishes_frees_everything_within_a_second() -> None:
    """At every stage of a call; `call` checks the slot and the tasks."""
    engines = FakeEngines()
    engines.llm.script = long_story

    async def script(client: Client, seconds: float) -> None:
        speaking = asyncio.create_task(client.say("tell me a story please"))
        await asyncio.sleep(seconds)
        speaking.cancel()
        before = asyncio.get_running_loop().time()
        await client.hang_up()
        assert asyncio.get_running_loop().time() - before < 1

    for third in range(15):
        call(lambda client, at=third / 3: script(client, at), engines=engines)  # type: ignore[misc]


def test_turn_detection_goes_off_in_mid_speech_and_on_again() -> None:
    async def script(client: Client) -> None:
        await client.say("one two three four")
        client.configure(turn_detection=None)
        await client.say("five six seven")
        client.tell("input_audio_buffer.commit")
        await client.until(TRANSCRIBED, 2)
        client.tell("response.cancel")
        await client.quiet(2)
        client.configure(turn_detection={"type": "server_vad"})
        await client.say("eight nine")
        await client.until(TRANSCRIBED, 3)

    engines = storyteller()
    engines.cost = 0.4  # words come in while the recogniser is at work
    client = call(script, engines=engines)
    words = [event["transcript"] for event in client.all(TRANSCRIBED)]
    assert words == ["one two three four", "five six seven", "eight nine"]


def test_a_commit_in_mid_speech_takes_all_words_so_far() -> None:
    async def script(client: Client) -> None:
        await client.say("one two three four")
        client.tell("input_audio_buffer.commit")
        await client.until(TRANSCRIBED)

    client = call(script)
    assert client.all(TRANSCRIBED)[0]["transcript"] == "one two three four"
    assert client.all("input_audio_buffer.speech_stopped")[0]["audio_end_ms"] > 1000


def test_what_follows_a_commit_at_once_is_the_next_turn() -> None:
    async def script(client: Client) -> None:
        client.configure(turn_detection=None)
        audio = client.engines.code.audio
        client.append((audio("one two three", 24_000) * 32767).astype("<i2").tobytes())
        client.tell("input_audio_buffer.commit")
        client.append((audio("four five", 24_000) * 32767).astype("<i2").tobytes())
        client.tell("input_audio_buffer.commit")
        await asyncio.sleep(2)

    client = call(script)
    words = [event["transcript"] for event in client.all(TRANSCRIBED)]
    assert words == ["one two three", "four five"]


def test_g711_in_and_out() -> None:
    async def script(client: Client) -> None:
        form = {"type": "audio/pcmu"}
        client.tell(
            "session.update",
            session={
                "type": "realtime",
                "audio": {"input": {"format": form}, "output": {"format": form}},
            },
        )
        audio = client.engines.code.audio("what is the time", 8_000)
        client.append(ulaw_encode((audio * 32767).astype("<i2")))
        await asyncio.sleep(15)

    client = call(script)
    assert client.all(TRANSCRIBED)[0]["transcript"] == "what is the time"
    data = b"".join(base64.b64decode(delta["delta"]) for delta in client.all(AUDIO))
    spoken = to_float(ulaw_decode(data))
    assert client.engines.code.text(spoken, 8_000) == "you said what is the time that is all"
