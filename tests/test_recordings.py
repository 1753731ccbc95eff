"""Audio that a client puts into the conversation as an item, in place of the input buffer."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from speech.audio import ulaw_encode
from tests.calls import RATE, TRANSCRIBED, Client, call
from tests.fakes import Event, FakeEngines, FakeReader, message_texts, pcm16

FAILED = "conversation.item.input_audio_transcription.failed"


def recording(data: bytes) -> Event:
    return {"type": "input_audio", "audio": base64.b64encode(data).decode()}


def spoken(engines: FakeEngines, text: str) -> Event:
    return recording(pcm16(engines.code.audio(text, RATE)).tobytes())


def answered(client: Client, *parts: Event) -> None:
    """The parts are put into the conversation, and an answer is asked for at once."""
    item = {"type": "message", "role": "user", "id": "mine", "content": list(parts)}
    client.tell("conversation.item.create", item=item, event_id="e1")
    client.tell("response.create")


def test_a_recording_is_answered() -> None:
    async def script(client: Client) -> None:
        answered(client, spoken(client.engines, "is it so"))
        await client.until("response.done")
        client.tell("conversation.item.retrieve", item_id="mine")
        await client.until("conversation.item.retrieved")

    client = call(script, engines=FakeEngines(cost=1.0))
    assert client.heard() == "you said is it so that is all"
    (words,) = client.all(TRANSCRIBED)
    assert (words["item_id"], words["content_index"]) == ("mine", 0)
    assert words["transcript"] == "is it so"
    assert words["usage"] == {"type": "duration", "seconds": pytest.approx(0.8)}
    known = [{"type": "input_audio", "transcript": None}]
    assert client.all("conversation.item.added")[0]["item"]["content"] == known
    (item,) = client.all("conversation.item.retrieved")
    assert item["item"]["content"] == [{"type": "input_audio", "transcript": "is it so"}]


def test_recordings_stand_among_other_parts() -> None:
    async def script(client: Client) -> None:
        engines = client.engines
        engines.reader = FakeReader()
        text = {"type": "input_text", "text": "listen"}
        picture = "data:image/png;base64," + base64.b64encode(b"a sign").decode()
        shown = {"type": "input_image", "image_url": picture}
        answered(client, text, spoken(engines, "one two"), shown, spoken(engines, "three"))
        await client.until("response.done")

    client = call(script)
    said = message_texts(client.engines.llm.prompts[-1])[-1][1]
    assert said.startswith("listen\none two\n[The caller shows a picture.")
    assert said.endswith("a sign\n]\nthree")
    assert [event["content_index"] for event in client.all(TRANSCRIBED)] == [1, 3]


def test_a_recording_has_the_sessions_input_format() -> None:
    async def script(client: Client) -> None:
        client.configure(format={"type": "audio/pcmu"})
        pcm = pcm16(client.engines.code.audio("is it so", RATE))
        answered(client, recording(ulaw_encode(pcm[::3].copy())))
        await client.until("response.done")

    assert call(script).all(TRANSCRIBED)[0]["transcript"] == "is it so"


@pytest.mark.parametrize("broken", [False, True])
def test_a_recording_without_words(broken: bool) -> None:
    async def script(client: Client) -> None:
        client.engines.recognizer.broken = broken
        answered(client, {"type": "input_text", "text": "hello"}, recording(bytes(48_001)))
        await client.until("response.done")

    client = call(script)
    assert [event["content_index"] for event in client.all(FAILED)] == [1]
    assert [error["error"]["code"] for error in client.all("error")] == ["engine_failed"] * broken
    assert client.heard() == "you said hello that is all"


def test_nothing_is_said_about_it_where_no_transcription_is_wanted() -> None:
    async def script(client: Client) -> None:
        client.configure(transcription=None)
        answered(client, spoken(client.engines, "is it so"))
        await client.until("response.done")

    client = call(script)
    assert client.heard() == "you said is it so that is all"
    assert not client.all(TRANSCRIBED)


def test_a_response_of_its_own_items_needs_their_words() -> None:
    async def script(client: Client) -> None:
        part: dict[str, Any] = spoken(client.engines, "is it so")
        item = {"type": "message", "role": "user", "content": [part]}
        client.tell("response.create", response={"input": [item]}, event_id="e1")
        await client.until("error")

    (error,) = call(script).all("error")
    assert (error["error"]["param"], error["error"]["event_id"]) == ("response.input", "e1")
