"""Does a GGUF model listen to a life that is told to it, or does it say it back?

    PYTHONPATH=.:scripts .venv/bin/python scripts/rate_listening.py A.gguf B.gguf [--plain]

Fourteen turns as a call heard them, some of them halves of sentences, and five questions about
them; some times over, since what a model once said it says again. Counted are replies to what is
told that say it back (half of their words, in runs of four, are the caller's), those with a
sentence that was said before, and right answers. `--plain`: the model is shown all of its replies,
and may use the prompt's words.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from assistant.config import INSTRUCTIONS, Config
from assistant.conversation import Item, caller_turn, spoken_reply, to_messages
from assistant.interruption import tokens
from assistant.mind import only_tells
from llm.interfaces import Message, Prompt, Sampling, TextDelta
from llm.llamacpp import LlamaCppEngine, LlamaCppModel

_TOLD = """\
Good morning, my name is Walter. And I would like to tell you about my life because my \
grandchildren asked me to write it down.
I was born in Aberdeen in the winter, in a small house by the harbor, my father mended fishing \
nets, and my mother sold bread at the market.
my first dog was called biscuit. He followed me to school every day.
and waited outside until the bell rang in the afternoon.
When I was 14, I left school and began to work on a boat called the Silver Gull, the captain was \
a stern man with a red beard.
We sailed to Norway in the spring for herring. and the sea was so rough that the cook refused to \
leave his bunk for three days.
In those years I learned to play the accordion from an old sailor.
on Saturdays we played for the dancers in the village hall.
That is where I met my wife. She wore a green dress and she told me that my accordion was badly \
out of tune, which was true.
We married two years later and moved to a farm in the hills where we kept 40 sheep and a very \
bad tempered goat.
Our daughter was born during a thunderstorm. while the doctor was stuck in the mud with his car \
at the bottom of our hill.
After the war, the prices fell and we had to sell the sheep. I found work as a postman, and \
walked fifteen miles every day.
I like being a postman because everybody told me their stories and I carried them from one \
village to the next.
Later we bought a little shop and my wife made the best marmalade in the county. People came \
from far away for it.
""".splitlines()
_ASKED = {
    "What was the name of my first dog?": "biscuit",
    "Where was I born?": "aberdeen",
    "What was the boat called that I worked on?": "gull",
    "What is my name?": "walter",
    "What color was the dress of my wife?": "green",
}
_RUN = 4
_SENTENCE = 5
"""Words of a sentence that is not said twice by chance."""


class Listener:
    """A model, and what it said in several calls."""

    def __init__(self, *, plain: bool) -> None:
        self.said_back = self.said_again = self.replies = self.right = self.answers = 0
        self._plain = plain

    async def call(self, slot: LlamaCppModel) -> None:
        items: list[Item] = []
        said: set[str] = set()
        for turn in (*_TOLD, *_ASKED):
            items.append(caller_turn(f"caller {len(items)}", turn))
            reply = await self._reply(slot, items)
            items.append(spoken_reply(f"reply {len(items)}", speaks=False))
            items[-1].replace([{"type": "output_text", "text": reply}])
            if wanted := _ASKED.get(turn):
                self.answers += 1
                self.right += wanted in reply.lower()
                continue
            sentences = {tuple(tokens(each)) for each in re.split(r"[.!?]", reply)}
            long = {" ".join(each) for each in sentences if len(each) >= _SENTENCE}
            self.replies += 1
            self.said_back += 2 * _words_in_runs(reply, turn) >= len(tokens(reply))
            self.said_again += bool(long & said)
            said |= long

    async def _reply(self, slot: LlamaCppModel, items: list[Item]) -> str:
        prompt = Prompt(to_messages(INSTRUCTIONS, items))
        if self._plain:
            shown = (Message(item.role, item.text) for item in items)  # type: ignore[arg-type]
            prompt = Prompt((Message("system", INSTRUCTIONS), *shown))
        varied = only_tells(prompt) and not self._plain
        sampling = Sampling(Config().llm.temperature, max_tokens=70, varied=varied)
        parts = [part async for part in slot.reply(prompt, sampling)]
        return "".join(part.text for part in parts if isinstance(part, TextDelta))


def _words_in_runs(reply: str, told: str) -> int:
    """Words of `reply` that stand in runs of `told`."""
    words, theirs = tokens(reply), tokens(told)
    runs = {tuple(theirs[at : at + _RUN]) for at in range(len(theirs) - _RUN + 1)}
    found: set[int] = set()
    for at in range(len(words) - _RUN + 1):
        if tuple(words[at : at + _RUN]) in runs:
            found.update(range(at, at + _RUN))
    return len(found)


async def listened(model: Path, calls: int, *, plain: bool) -> Listener:
    engine = await asyncio.to_thread(LlamaCppEngine, model, slots=1, context=4096, threads=2)
    listener = Listener(plain=plain)
    for _ in range(calls):
        slot = engine.open()
        await listener.call(slot)
        await slot.close()
    await engine.aclose()
    return listener


def main(
    models: list[Path], calls: int = 6, plain: Annotated[bool, typer.Option()] = False
) -> None:
    """Print it."""
    for model in models:
        found = asyncio.run(listened(model, calls, plain=plain))
        print(
            f"{model.stem}{', plain' * plain}: of {found.replies} replies {found.said_back} say "
            f"back what was told, {found.said_again} say a sentence again; "
            f"{found.right} of {found.answers} answers right"
        )


if __name__ == "__main__":
    typer.run(main)
