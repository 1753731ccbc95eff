"""What response.done tells of a reply's latency, in virtual time: from which speech it counts."""

from __future__ import annotations

from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta, ToolCall
from tests.calls import AUDIO, Client, call, message, storyteller
from tests.fakes import FakeEngines


def timings(client: Client) -> list[dict[str, int]]:
    return [event["conch"]["timing_ms"] for event in client.all("response.done")]


def test_latency_counts_from_speech_only_where_speech_is_answered() -> None:
    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until(AUDIO, 25)
        await client.say("mhm")
        await client.until("response.done")
        await client.quiet(20)
        client.tell("conversation.item.create", item=message("and the date"))
        client.tell("response.create")
        await client.until("response.done", 2)

    client = call(script, engines=storyteller(), extensions=frozenset({"conch.1"}))
    spoken, typed = timings(client)
    assert set(typed) == {"first_token", "first_clause", "tts", "delivery"}
    assert set(spoken) == {*typed, "endpointing", "asr", "total"}
    assert 200 < spoken["endpointing"] <= spoken["total"] < 2000


def test_latency_counts_on_while_a_tool_is_at_work() -> None:
    def look_up(prompt: Prompt) -> list[ReplyPart]:
        if prompt.messages[-1].role == "tool":
            return [TextDelta("It will rain."), Finished("stop")]
        return [ToolCall("call_1", "weather", "{}"), Finished("tool_calls")]

    async def script(client: Client) -> None:
        await client.say("how is the weather")
        await client.until("response.done")
        await client.quiet(0.5)
        output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
        client.tell("conversation.item.create", item=output)
        client.tell("response.create")
        await client.until("response.done", 2)
        await client.quiet(3)
        client.tell("response.create")
        await client.until("response.done", 3)

    engines = FakeEngines()
    engines.llm.script = look_up
    called, told, again = timings(call(script, engines=engines, extensions=frozenset({"conch.1"})))
    assert "total" not in called
    assert called["endpointing"] + 500 < told["total"] < 3000
    assert "total" not in again
