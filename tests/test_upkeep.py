"""A long call: what has left the window is summed up, and no reply waits for it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from assistant.config import Config, LlmConfig
from assistant.upkeep import REQUEST
from llm.interfaces import Finished, LanguageModelError, Prompt, ReplyPart, TextDelta
from tests.calls import AUDIO, Client, call
from tests.fakes import FakeEngines

CONFIG = Config(llm=LlmConfig(window=256, context=1024))
SUMMARY = "(Earlier in this call: The caller is Ann.)"
ANSWER = " ".join(f"word{number}" for number in range(12)) + "."


def answers(prompt: Prompt) -> Iterable[ReplyPart]:
    asked = prompt.messages[-1].content
    yield TextDelta("The caller\n is Ann." if asked.endswith(REQUEST) else ANSWER)
    yield Finished("stop")


def engines() -> FakeEngines:
    fakes = FakeEngines()
    fakes.llm.script = answers
    return fakes


async def talk(client: Client, turns: range, pause: float = 1.0) -> None:
    for number in turns:
        await client.say(f"turn number{number} and quite some more words")
        await client.until("response.done", number + 1)
        await client.quiet(pause)


def asked(client: Client) -> list[Prompt]:
    """The prompts of replies, without those for summaries."""
    prompts = client.engines.llm.prompts
    return [p for p in prompts if not p.messages[-1].content.endswith(REQUEST)]


def test_what_leaves_the_window_is_summed_up() -> None:
    async def script(client: Client) -> None:
        await talk(client, range(9))

    client = call(script, engines=engines(), config=CONFIG)
    beginning = asked(client)[-1].messages
    assert beginning[1].content.startswith(SUMMARY)
    assert "number0" not in str(beginning)
    assert "turn number8" in beginning[-1].content


def test_what_left_the_window_is_told_again_to_the_turn_that_asks_for_it() -> None:
    async def script(client: Client) -> None:
        await client.say("My parrot is called Biscuit.")
        await client.until("response.done")
        await client.quiet(1.0)
        await talk(client, range(1, 9))
        await client.say("What is my parrot called?")
        await client.until("response.done", 10)
        await talk(client, range(10, 11))

    client = call(script, engines=engines(), config=CONFIG)
    before, asking, after = asked(client)[-3:]
    assert "biscuit" not in str(before)
    assert asking.messages[-1].content.split("\n") == [
        "(Earlier in this call I said: my parrot is called biscuit)",
        "what is my parrot called",
    ]
    assert "biscuit" not in str(after)


def test_the_prompt_is_static_but_for_its_end_until_it_is_shortened() -> None:
    async def script(client: Client) -> None:
        await talk(client, range(14))

    fakes = engines()
    fakes.llm.prompts = type(fakes.llm.prompts)(maxlen=100)
    client = call(script, engines=fakes, config=CONFIG)
    prompts = [prompt.messages for prompt in asked(client)]
    changes = sum(after[: len(before) - 1] != before[:-1] for before, after in pairwise(prompts))
    assert len(prompts) == 14
    assert 2 <= changes <= 5, "each change makes the model read the call anew"


def test_speech_breaks_it_off_and_is_answered_as_soon_as_ever() -> None:
    delays = []
    for window in (256, 6000):

        async def script(client: Client) -> None:
            await talk(client, range(5), pause=0.5)
            client.engines.llm.reading = 3.0
            await client.quiet(0.7)
            before = client.session.clock.time()
            await client.say("turn number5 and quite some more words")
            client.engines.llm.reading = 0.05
            await client.until(AUDIO, 1 + len(client.all(AUDIO)))
            delays.append(client.session.clock.time() - before)
            await client.until("response.done", 6)

        config = Config(llm=LlmConfig(window=window, context=8192))
        call(script, engines=engines(), config=config)
    assert delays[0] == delays[1]


def test_a_summary_that_fails_leaves_the_call_as_it_is() -> None:
    def failing(prompt: Prompt) -> Iterable[ReplyPart | Exception]:
        if prompt.messages[-1].content.endswith(REQUEST):
            return [LanguageModelError("out of order")]
        return answers(prompt)

    async def script(client: Client) -> None:
        await talk(client, range(9))

    fakes = engines()
    fakes.llm.script = failing
    client = call(script, engines=fakes, config=CONFIG)
    assert "error" not in client.kinds()
    assert "number2" in str(asked(client)[-1].messages)


def test_while_another_call_has_the_second_slot_the_window_grows_up_to_its_limit() -> None:
    sizes = []

    async def script(client: Client) -> None:
        await client.engines.spare.acquire()
        for number in range(12):
            await talk(client, range(number, number + 1), pause=0.2)
            items = client.session.memory.conversation.latest()
            sizes.append(sum(item.tokens for item in items))

    client = call(script, engines=engines(), config=Config(llm=LlmConfig(window=256, context=512)))
    assert 256 < max(sizes) <= 512 * 7 // 8
    assert sizes[-1] < max(sizes), "the window moved"
    assert all(prompt.messages[-1].content != REQUEST for prompt in client.engines.llm.prompts)
