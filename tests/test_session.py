"""Whole calls with fake engines in virtual time: real audio through the real path."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from llm.interfaces import Finished, TextDelta, ToolCall
from tests import fakes
from tests.calls import RATE, Client, call
from tests.fakes import FakeEngines, message_texts

TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.completed",
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def test_one_turn_in_the_order_that_clients_rely_on() -> None:
    async def script(client: Client) -> None:
        await client.say("what is the time")
        await client.until("response.done")

    client = call(script)
    kinds = [kind for kind in client.kinds() if not kind.endswith(".delta")]
    assert kinds == ["session.created", *TURN]
    assert client.heard() == "you said what is the time that is all"
    done = client.all("conversation.item.input_audio_transcription.completed")[0]
    assert done["transcript"] == "what is the time"
    item_ids = {e["item_id"] for _, e in client.events if "input_audio" in e["type"]}
    assert item_ids == {done["item_id"]}


def test_deltas_are_never_retracted() -> None:
    async def script(client: Client) -> None:
        await client.say("one two three four five six seven eight nine ten")
        await client.until("response.done")

    client = call(script)
    name = "conversation.item.input_audio_transcription"
    deltas = [e["delta"] for e in client.all(f"{name}.delta")]
    assert len(deltas) > 1
    assert "".join(deltas) == client.all(f"{name}.completed")[0]["transcript"]


def test_the_model_reads_ahead_and_answers_early() -> None:
    async def script(client: Client) -> None:
        await client.say("one two three four five six seven eight")
        await client.until("response.done")

    client = call(script)
    partial = [message_texts(p)[-1][1] for p in client.engines.llm.prefills]
    assert any(text.startswith("one two") for text in partial)
    assert len(client.engines.llm.prompts) == 1


def test_a_pause_in_a_sentence_is_one_turn() -> None:
    async def script(client: Client) -> None:
        await client.say("i went to the")
        await client.quiet(1.0)
        await client.say("market")
        await client.until("response.done")

    client = call(script)
    assert client.all("conversation.item.input_audio_transcription.completed")[0]["transcript"] == (
        "i went to the market"
    )
    assert len(client.all("response.created")) == 1


def test_a_speculative_reply_leaves_no_trace_when_the_caller_goes_on() -> None:
    async def script(client: Client) -> None:
        client.configure(turn_detection={"type": "server_vad", "silence_duration_ms": 700})
        await client.say("tell me")
        await client.quiet(0.4)
        await client.say("about bern")
        await client.until("response.done")

    engines = FakeEngines()
    client = call(script, engines=engines)
    assert len(engines.llm.prompts) == 2, "nothing was speculated: the test proves nothing"
    assert len(client.all("response.created")) == 1
    assert client.heard() == "you said tell me about bern that is all"


def long_story(_: object) -> list[object]:
    words = [f"word{n} " for n in range(35)]
    return [*(TextDelta(w) for w in words[:-1]), TextDelta("end."), Finished("stop")]


def test_an_interruption_keeps_only_what_was_heard() -> None:
    engines = FakeEngines()
    engines.llm.script = long_story  # type: ignore[assignment]

    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until("response.output_audio.delta", 20)
        await client.say("stop please enough of this")
        await client.until("response.done", 2)

    client = call(script, engines=engines)
    first, second = client.all("response.done")
    assert first["response"]["status"] == "cancelled"
    assert first["response"]["status_details"]["reason"] == "turn_detected"
    assert second["response"]["status"] == "completed"
    item_id = first["response"]["output"][0]["id"]
    remembered = dict(message_texts(engines.llm.prompts[-1]))["assistant"]
    assert remembered.endswith("—")
    kept = remembered.removesuffix("—").split()
    delivered = client.heard(item_id).split()
    assert kept == delivered[: len(kept)]
    assert len(delivered) - len(kept) <= 2
    assert message_texts(engines.llm.prompts[-1])[-1] == ("user", "stop please enough of this")
    started = client.when("input_audio_buffer.speech_started", 2)
    last_audio = max(
        at
        for at, event in client.events
        if event["type"] == "response.output_audio.delta" and event["item_id"] == item_id
    )
    assert last_audio <= started


@pytest.mark.parametrize("noise", ["mm-hmm", ""])
def test_a_backchannel_does_not_stop_the_reply(noise: str) -> None:
    engines = FakeEngines()
    engines.llm.script = long_story  # type: ignore[assignment]

    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until("response.output_audio.delta", 20)
        await client.say(noise)
        await client.until("response.done")

    client = call(script, engines=engines)
    assert client.all("response.done")[0]["response"]["status"] == "completed"
    assert len(client.all("input_audio_buffer.speech_started")) == 1
    assert client.heard().split() == [*(f"word{n}" for n in range(34)), "end"]


def test_push_to_talk() -> None:
    async def script(client: Client) -> None:
        client.configure(turn_detection=None)
        await client.quiet(0.1)
        client.tell("input_audio_buffer.clear")
        await client.say("hello there")
        client.tell("input_audio_buffer.commit")
        client.tell("response.create")
        await asyncio.sleep(20)

    client = call(script)
    assert client.heard() == "you said hello there that is all"
    assert "input_audio_buffer.speech_started" not in client.kinds()
    assert len(client.all("input_audio_buffer.committed")) == 1


def test_text_in_text_out() -> None:
    async def script(client: Client) -> None:
        item = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi there"}],
        }
        client.tell("conversation.item.create", item=item)
        client.tell(
            "response.create", response={"output_modalities": ["text"], "metadata": {"a": "b"}}
        )
        await asyncio.sleep(5)

    client = call(script)
    assert client.all("response.output_text.done")[0]["text"] == "you said hi there. that is all."
    assert client.all("response.created")[0]["response"]["metadata"] == {"a": "b"}
    assert "response.output_audio.delta" not in client.kinds()


def test_an_answer_to_what_is_told_is_to_use_other_words() -> None:
    async def script(client: Client) -> None:
        told = ("i was born in bern", "where was i born", "it was in 1931")
        for number, words in enumerate(told, 1):
            await client.say(words)
            await client.until("response.done", number)
            await client.quiet(5)

    client = call(script)
    asked = zip(client.engines.llm.prompts, client.engines.llm.samplings, strict=True)
    varied = {prompt.messages[-1].content: sampling.varied for prompt, sampling in asked}
    assert varied["i was born in bern"]
    assert not varied["where was i born"]
    assert not varied["it was in 1931"], "a number has to be read back as it is"


def test_a_tool_call_and_its_answer() -> None:
    def script_of(prompt: object) -> list[object]:
        if len(engines.llm.prompts) == 1:
            return [ToolCall("call_1", "weather", '{"city": "Bern"}'), Finished("tool_calls")]
        return [TextDelta("It rains."), Finished("stop")]

    async def script(client: Client) -> None:
        tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
        client.tell("session.update", session={"type": "realtime", "tools": [tool]})
        await client.say("how is the weather")
        await client.until("response.done")
        output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
        client.tell("conversation.item.create", item=output)
        client.tell("response.create")
        await client.until("response.done", 2)

    engines = FakeEngines()
    engines.llm.script = script_of  # type: ignore[assignment]
    client = call(script, engines=engines)
    done = client.all("response.function_call_arguments.done")[0]
    assert (done["name"], done["arguments"]) == ("weather", '{"city": "Bern"}')
    assert engines.llm.prompts[0].tools[0].name == "weather"
    roles = [role for role, _ in message_texts(engines.llm.prompts[1])]
    assert roles == ["system", "user", "assistant", "tool"]
    assert client.heard() == "it rains"


def test_a_broken_model_says_so_and_the_call_goes_on() -> None:
    engines = FakeEngines()
    engines.llm.script = fakes.failing

    async def script(client: Client) -> None:
        await client.say("hello there")
        await client.until("response.done")
        engines.llm.script = fakes.echo
        await client.say("and now")
        await client.quiet(2)
        await client.until("response.done", 2)

    client = call(script, engines=engines)
    assert client.all("error")[0]["error"]["message"] == "the model is out of order"
    failed, worked = client.all("response.done")
    assert failed["response"]["status"] == "failed"
    assert worked["response"]["status"] == "completed"
    assert "sorry something went wrong" in client.heard()


def test_a_broken_recogniser_is_apologised_for() -> None:
    async def script(client: Client) -> None:
        client.engines.recognizer.broken = True
        await client.say("hello there")
        await client.until("response.done")
        client.engines.recognizer.broken = False
        await client.say("hello again")
        await client.until("response.done", 2)

    client = call(script)
    assert "the recogniser is out of order" in {e["error"]["message"] for e in client.all("error")}
    assert client.heard().startswith("sorry i didn't catch that")
    assert client.heard().endswith("you said hello again that is all")


def test_a_broken_synthesiser_leaves_the_text() -> None:
    async def script(client: Client) -> None:
        client.engines.synthesizer.broken = True
        await client.say("hello there")
        await client.until("response.done")

    client = call(script)
    assert client.all("response.done")[0]["response"]["status"] == "failed"
    text = "".join(e["delta"] for e in client.all("response.output_audio_transcript.delta"))
    assert text == "you said hello there. that is all."


def test_a_client_that_stops_sending_has_fallen_silent() -> None:
    async def script(client: Client) -> None:
        await client.say("hello there")
        await asyncio.sleep(10)

    assert call(script).heard() == "you said hello there that is all"


def test_a_turn_longer_than_the_recognisers_window_loses_no_word() -> None:
    words = " ".join(f"w{n}" for n in range(36))

    async def script(client: Client) -> None:
        for _ in range(6):
            await client.say(words)
        await client.until("response.done", timeout=200)

    client = call(script)
    (done,) = client.all("conversation.item.input_audio_transcription.completed")
    assert done["transcript"].split() == " ".join([words] * 6).split()


def test_audio_in_a_burst_loses_no_word() -> None:
    words = " ".join(f"w{n}" for n in range(36))

    async def script(client: Client) -> None:
        audio = fakes.pcm16(client.engines.code.audio(" ".join([words] * 6), RATE)).tobytes()
        for at in range(0, len(audio), 480_000):
            client.append(audio[at : at + 480_000])
        await client.until("response.done", timeout=200)

    client = call(script)
    (done,) = client.all("conversation.item.input_audio_transcription.completed")
    assert done["transcript"].split() == " ".join([words] * 6).split()


def test_a_slow_client_is_closed_with_a_reason() -> None:
    async def script(client: Client) -> None:
        engines.llm.script = lambda _: [TextDelta("word " * 4000), Finished("stop")]
        await client.say("hello there")
        client.reading.clear()
        await asyncio.sleep(2000)

    engines = FakeEngines()
    client = call(script, engines=engines)
    assert client.closed is not None
    assert client.closed[0] == 1008
    assert "too slowly" in client.closed[1]


def test_fifty_minutes_take_no_time_and_no_memory() -> None:
    """A telephone call: 120 turns of 25 s. The client forgets what it got, so what grows is the
    session's."""
    sizes = []

    async def script(client: Client) -> None:
        client.chunk, client.g711 = 0.5, True
        form = {"type": "audio/pcmu"}
        audio = {"input": {"format": form}, "output": {"format": form}}
        client.tell("session.update", session={"type": "realtime", "audio": audio})
        for turn in range(120):
            await client.say(words)
            await client.until("response.done")
            await client.quiet(max(0.0, 25.0 * (turn + 1) - asyncio.get_running_loop().time()))
            client.events.clear()
            if turn in (30, 119):
                gc.collect()
                sizes.append(sum(map(sys.getsizeof, gc.get_objects())))
        assert asyncio.get_running_loop().time() == pytest.approx(3000)
        # The very last prompt may be what sums the call up.
        latest = list(client.engines.llm.prompts)[-2:]
        assert words in [message_texts(prompt)[-1][1] for prompt in latest]

    words = "what is the time now my friend"
    call(script)
    assert sizes[1] - sizes[0] < 1_000_000


def test_what_follows_a_commit_in_mid_speech_is_the_next_turn() -> None:
    words = "one two three four five six seven eight nine ten"

    async def script(client: Client) -> None:
        speaking = asyncio.create_task(client.say(words))
        await asyncio.sleep(1.2)
        client.tell("input_audio_buffer.commit")
        await speaking
        await client.until("conversation.item.input_audio_transcription.completed", 2)
        await client.until("response.done", 2)

    client = call(script)
    name = "conversation.item.input_audio_transcription.completed"
    first, second = (event["transcript"] for event in client.all(name))
    assert f"{first} {second}" == words
