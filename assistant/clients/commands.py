"""The client commands of `conch`: call and kiosk. They run where no server is installed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

Server = Annotated[
    str, typer.Option(help="Where it is: http://HOST:PORT, or the websocket's own URL.")
]
ApiKey = Annotated[str, typer.Option(envvar="CONCH_SERVER_API_KEY", help="That server's key.")]
Microphone = Annotated[
    str, typer.Option(help="A part of the device's name, or its number; else the system's own.")
]
Loudspeaker = Annotated[str, typer.Option(help="The same for what plays.")]
LOCAL = "http://127.0.0.1:8470"


def call(
    server: Server = LOCAL,
    api_key: ApiKey = "",
    wav: Annotated[
        Path | None, typer.Option(help="A recorded caller instead of the sound card.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --wav: the call, in stereo.")
    ] = None,
    microphone: Microphone = "",
    loudspeaker: Loudspeaker = "",
) -> None:
    """Hold a call in the terminal: captions, who has the floor, latencies."""
    from assistant.clients import mic

    if wav:
        asyncio.run(mic.with_recording(server, api_key, wav, output))
    elif output:
        raise typer.BadParameter("expected --wav beside --output")
    else:
        asyncio.run(mic.with_microphone(server, api_key, microphone, loudspeaker))


def kiosk(  # noqa: PLR0913, PLR0917  # typer's way to declare options
    server: Server = LOCAL,
    api_key: ApiKey = "",
    wake_word: Annotated[
        str, typer.Option(help="hey_jarvis, alexa, hey_mycroft, hey_rhasspy, okay_nabu, or none.")
    ] = "hey_jarvis",
    button: Annotated[
        str, typer.Option(help="`key` (Enter), or a command each of whose lines is a press.")
    ] = "",
    status_command: Annotated[
        str, typer.Option(help="Run with each state's name: lights, for instance.")
    ] = "",
    silence: Annotated[float, typer.Option(help="Seconds of silence that end a call.")] = 20.0,
    microphone: Microphone = "",
    loudspeaker: Loudspeaker = "",
) -> None:
    """Sleep until a wake word or a button, then hold a call."""
    from assistant.clients.kiosk import Settings, run
    from assistant.clients.kiosk_states import Patience

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    word = "" if wake_word == "none" else wake_word
    asyncio.run(
        run(
            Settings(
                server, api_key, word, button, status_command, microphone, loudspeaker,
                Patience(silence=silence),
            )
        )
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command()(call)
    app.command()(kiosk)
