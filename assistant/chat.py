"""`conch chat`: a written conversation with the language model, in the terminal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import typer

from assistant.config import Config
from llm.interfaces import Engine, LanguageModel, Message, Prompt, Sampling, TextDelta


def run(engine: Engine, settings: Config) -> None:
    """Until the user is done; closes `engine`. Raises LanguageModelError."""
    history = [Message("system", settings.call.instructions)]
    with asyncio.Runner() as runner:
        try:
            model = runner.run(_opened(engine))
            while line := _asked():
                history.append(Message("user", line))
                history.append(Message("assistant", _answered(runner, model, history, settings)))
            runner.run(model.close())
        finally:
            runner.run(engine.aclose())


async def _opened(engine: Engine) -> LanguageModel:
    return engine.open()


def _asked() -> str:
    """The next line that is not blank; empty when the user is done."""
    try:
        while not (line := input("you> ").strip()):
            pass
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return ""
    return line


def _answered(
    runner: asyncio.Runner, model: LanguageModel, history: list[Message], settings: Config
) -> str:
    """Print the reply as it comes; what was there before Ctrl-C is what was said."""
    said: list[str] = []
    try:
        runner.run(_answer(model, history, settings, said))
    except KeyboardInterrupt:
        typer.echo(" ...", nl=False)
    typer.echo()
    return "".join(said)


async def _answer(
    model: LanguageModel, history: list[Message], settings: Config, said: list[str]
) -> None:
    sampling = Sampling(settings.llm.temperature, settings.llm.max_tokens)
    async with aclosing(model.reply(Prompt(tuple(history)), sampling)) as parts:
        async for part in parts:
            if isinstance(part, TextDelta):
                said.append(part.text)
                typer.echo(part.text, nl=False)
