"""What stock clients send beyond a plain call, message by message, as their sources have it."""

from __future__ import annotations

from typing import Any

from tests.calls import AUDIO, RATE, TRANSCRIBED, Client, call, message, storyteller
from tests.fakes import Event, echo, message_texts, pcm16


def codes(client: Client) -> list[str]:
    return [event["error"]["code"] for event in client.all("error")]


def test_pipecat_that_finds_the_turns_itself() -> None:
    """It clears what came before, sends the onset again, cancels, truncates; then commits.

    The only errors that do not end its receiving are those about a cancel and a second response."""

    async def talk(client: Client, text: str) -> None:
        engines = client.engines
        await client.quiet(0.2)
        audio = engines.code.audio(text, RATE)
        await client.play(audio[: RATE // 10])
        client.tell("input_audio_buffer.clear")
        client.append(pcm16(audio[: RATE // 10]).tobytes())
        client.tell("response.cancel")
        if items := client.all(AUDIO):
            client.tell(
                "conversation.item.truncate", item_id=items[-1]["item_id"], audio_end_ms=550
            )
        await client.play(audio[RATE // 10 :])
        client.tell("input_audio_buffer.commit")
        client.tell("response.create")

    async def script(client: Client) -> None:
        client.configure(turn_detection=None)
        await talk(client, "tell me a story")
        await client.until(AUDIO, 25)
        client.engines.llm.script = echo
        await talk(client, "is it so")
        await client.until("response.done", 2)

    client = call(script, engines=storyteller())
    assert [event["transcript"] for event in client.all(TRANSCRIBED)] == [
        "tell me a story",
        "is it so",
    ]
    assert set(codes(client)) <= {"response_cancel_not_active"}
    statuses = [event["response"]["status"] for event in client.all("response.done")]
    assert statuses == ["cancelled", "completed"]
    said = message_texts(client.engines.llm.prompts[-1])
    assert said[1:] == [
        ("user", "tell me a story"),
        ("assistant", "word0 word1—"),
        ("user", "is it so"),
    ]


def test_livekit_that_has_made_a_new_connection() -> None:
    """It brings the conversation along, each item after the one before, and goes on."""
    told: list[Event] = [
        message("will it rain", id="item_1"),
        {
            "type": "function_call",
            "id": "item_2",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city": "Bern"}',
        },
        {"type": "function_call_output", "id": "item_3", "call_id": "c1", "output": "rain"},
        {
            "type": "message",
            "role": "assistant",
            "id": "item_4",
            "content": [{"type": "output_text", "text": "It rains."}],
        },
    ]

    async def script(client: Client) -> None:
        for item, previous in zip(told, ["root", "item_1", "item_2", "item_3"], strict=True):
            event: dict[str, Any] = {"item": item, "previous_item_id": previous}
            client.tell("conversation.item.create", **event, event_id=f"of {item['id']}")
        await client.say("and tomorrow morning")
        await client.until("response.done")
        client.tell("response.create", response={"metadata": {"client_event_id": "e1"}})
        await client.until("response.done", 2)

    client = call(script)
    assert codes(client) == []
    added = client.all("conversation.item.added")
    assert [event["previous_item_id"] for event in added[:5]] == [
        None,
        "item_1",
        "item_2",
        "item_3",
        "item_4",
    ]
    roles = [role for role, _ in message_texts(client.engines.llm.prompts[-2])]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    asked = client.all("response.created")[-1]["response"]
    assert asked["metadata"] == {"client_event_id": "e1"}


def test_agents_that_rewrites_its_history() -> None:
    """It deletes what it changes and makes it again under the same id, in the same place."""

    async def script(client: Client) -> None:
        for name in ("a", "b", "c"):
            client.tell("conversation.item.create", item=message(f"this is {name}", id=name))
        client.tell("conversation.item.delete", item_id="b", event_id="agents_delete_1")
        client.tell(
            "conversation.item.create",
            previous_item_id="a",
            item={**message("this is new", id="b"), "status": "completed"},
            event_id="agents_create_2",
        )
        client.tell("response.create", response={"output_modalities": ["text"]})
        await client.until("response.done")

    client = call(script)
    assert codes(client) == []
    assert client.all("conversation.item.added")[3]["previous_item_id"] == "a"
    said = message_texts(client.engines.llm.prompts[-1])
    assert said[1:] == [("user", "this is a\nthis is new\nthis is c")]


def test_audio_comes_before_the_session_is_configured() -> None:
    async def script(client: Client) -> None:
        audio = client.engines.code.audio("is it the time", RATE)
        await client.play(audio[: RATE // 2])
        client.tell(
            "session.update",
            session={
                "type": "realtime",
                "instructions": "Be kind.",
                "reasoning": {"effort": "low"},
                "parallel_tool_calls": True,
                "unheard_of": 1,
            },
        )
        await client.play(audio[RATE // 2 :])
        await client.until("response.done")

    client = call(script)
    assert codes(client) == []
    assert client.heard() == "you said is it the time that is all"
    assert client.all("session.updated")[0]["session"]["unheard_of"] == 1
