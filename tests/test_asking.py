"""What clients ask for in the course of a call: truncating, responses, other ways to take turns."""

from __future__ import annotations

import asyncio
import base64

from llm.interfaces import Finished, TextDelta
from speech.audio import to_float, ulaw_decode, ulaw_encode
from tests.calls import AUDIO, TRANSCRIBED, Client, call, during_a_reply, message, storyteller
from tests.fakes import Event, FakeEngines, message_texts

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
    assert told == "word0 word1 word2—"


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
    engines = storyteller()

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
