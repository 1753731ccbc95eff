"""The client commands of `conch`: call and kiosk. They run where no server is installed."""

from __future__ import annotations

import asyncio
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


def register(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command()(call)
