"""A room for clients with a sound card: a PulseAudio null sink, an echo, somebody who speaks.

The sink's left channel is what the loudspeaker plays; its right one is what the microphone hears:
the same at the level of the echo, and whoever speaks. So both have one clock, as on a sound card:
two null sinks with a loopback between them drift by a thousandth, too much for echo cancellers.
The daemon is private: it has its socket, and all that it writes, in one directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ctypes.util import find_library
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from assistant.clients.line import RATE
from speech.interfaces import Pcm

_SCRIPT = """
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=room norewinds=1 rate=48000 channel_map=stereo
load-module module-remap-sink sink_name=loudspeaker master=room
load-module module-remap-sink sink_name=caller master=room {right}
load-module module-remap-source source_name=played master=room.monitor {left}
load-module module-remap-source source_name=microphone master=room.monitor {right}
"""
_CHANNEL = "channels=1 channel_map=front-{0} master_channel_map=front-{0} remix=no"
_RAW = ("--raw", f"--rate={RATE}", "--channels=1", "--format=s16le", "--latency-msec=40")
_STARTING = 10.0
"""Seconds in which the daemon has to be there."""


def missing() -> str:
    """What this machine lacks for a room, and how it is got; empty when it lacks nothing."""
    needs = {
        "pulseaudio": shutil.which("pulseaudio"),
        "pulseaudio-utils": shutil.which("pacat"),
        "libportaudio2": find_library("portaudio"),
        "libasound2-plugins": next(Path("/usr/lib").glob("*/alsa-lib/*_pcm_pulse.so"), None),
    }
    lacking = " ".join(package for package, found in needs.items() if not found)
    return f"no virtual sound card (apt-get install {lacking})" if lacking else ""


@dataclass
class Room:
    env: dict[str, str]
    """Of a process whose sound card is this room."""

    async def say(self, pcm: Pcm) -> None:
        """Speak int16 samples at RATE; returns when they were heard."""
        process = await self._sound("pacat", "--playback", "--device=caller", *_RAW)
        await process.communicate(pcm.astype("<i2").tobytes())

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[list[Pcm]]:
        """What the loudspeaker plays meanwhile, in pieces."""
        heard: list[Pcm] = []
        process = await self._sound("pacat", "--record", "--device=played", *_RAW)

        async def keep() -> None:
            while process.stdout and (data := await process.stdout.read(RATE // 5 * 2)):
                heard.append(np.frombuffer(data[: len(data) // 2 * 2], "<i2"))

        keeping = asyncio.create_task(keep())
        yield heard
        process.terminate()
        await process.wait()
        await keeping

    @asynccontextmanager
    async def client(
        self, printed: Path, *arguments: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """`conch` with these arguments, in this room; what it says goes into that file."""
        with printed.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "assistant", *arguments, env=self.env,
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _sound(self, *command: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command, env=self.env, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )


@asynccontextmanager
async def room(folder: Path, echo_db: float | None = None) -> AsyncIterator[Room]:
    """A daemon of its own in `folder`; the microphone hears the loudspeaker at that level, or not
    at all."""
    (folder / "room.pa").write_text(
        _SCRIPT.format(
            socket=folder / "native", left=_CHANNEL.format("left"), right=_CHANNEL.format("right")
        )
    )
    private = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_RUNTIME_PATH": str(folder),
    }
    env = {**os.environ, "PULSE_SERVER": f"unix:{folder / 'native'}", "PULSE_SINK": "loudspeaker",
           "PULSE_SOURCE": "microphone"}  # fmt: skip
    quiet = asyncio.subprocess.DEVNULL
    daemon = await asyncio.create_subprocess_exec(
        "pulseaudio", "-n", "-F", str(folder / "room.pa"), "--daemonize=no", "--use-pid-file=no",
        "--exit-idle-time=-1", "--disallow-exit", env={**os.environ, **private},
        stdout=quiet, stderr=quiet,
    )  # fmt: skip
    try:
        await _control(env, "info")
        # PulseAudio's volumes are cube roots, of 65536.
        echo = 0 if echo_db is None else round(65536 * 10 ** (echo_db / 60))
        await _control(env, "set-sink-input-volume", "0", "65536", str(echo))
        yield Room(env)
    finally:
        with suppress(ProcessLookupError):
            daemon.kill()
        await daemon.wait()


async def _control(env: dict[str, str], *command: str) -> None:
    async with asyncio.timeout(_STARTING):
        while True:
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(
                "pactl", *command, env=env, stdout=quiet, stderr=quiet
            )
            if await process.wait() == 0:
                return
            await asyncio.sleep(0.1)


def peak_megabytes(process: asyncio.subprocess.Process) -> float:
    """The most memory that a living process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# --- what goes over the line ------------------------------------------------------------------


@dataclass
class Relay:
    """A websocket that carries calls to a server, and keeps what the server says."""

    url: str = ""
    calls: int = 0
    """Connections so far."""
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """(loop time, event of the server), audio without its samples but with their number."""
    audio: int = 0
    """Samples of the microphone that were carried."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for _, event in self.events if event["type"] == kind]

    def times(self, kind: str) -> list[float]:
        """The loop's, when those came."""
        return [at for at, event in self.events if event["type"] == kind]

    async def until(self, kind: str, count: int, timeout: float) -> dict[str, Any]:
        """The `count`-th event of that type. Raises TimeoutError."""
        async with asyncio.timeout(timeout), self.news:
            await self.news.wait_for(lambda: len(self.all(kind)) >= count)
        return self.all(kind)[count - 1]

    async def sounding(self, response: int, seconds: float, timeout: float) -> bool:
        """Until that response, counted from 1, has so much audio; False where it is done before.
        Raises TimeoutError."""
        added = "response.output_item.added"
        item = (await self.until(added, response, timeout))["item"]["id"]

        def enough() -> bool:
            deltas = self.all("response.output_audio.delta")
            return sum(e["samples"] for e in deltas if e["item_id"] == item) > seconds * RATE

        def done() -> bool:
            ended = self.all("response.output_audio.done")
            return any(event["item_id"] == item for event in ended)

        async with asyncio.timeout(timeout), self.news:
            await self.news.wait_for(lambda: enough() or done())
        return enough()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[Relay]:
    """To the server at `url`, ws://HOST:PORT/v1/realtime."""
    relay = Relay()
    origin = url.removesuffix("/v1/realtime")
    loop = asyncio.get_running_loop()

    async def carry(client: ServerConnection) -> None:
        relay.calls += 1
        path = client.request.path if client.request else ""
        async with connect(origin + path, max_size=None) as there, asyncio.TaskGroup() as group:
            back = group.create_task(listen(there, client))
            with suppress(ConnectionClosed):
                async for message in client:
                    event = json.loads(message)
                    relay.audio += len(event.get("audio", "")) * 3 // 8
                    await there.send(message)
            back.cancel()

    async def listen(there: Any, client: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in there:
                await client.send(message)
                event = json.loads(message)
                if event["type"] == "response.output_audio.delta":
                    event["samples"] = len(event.pop("delta")) * 3 // 8
                async with relay.news:
                    relay.events.append((loop.time(), event))
                    relay.news.notify_all()

    async with serve(carry, "127.0.0.1", 0, max_size=None) as serving:
        relay.url = f"ws://127.0.0.1:{serving.sockets[0].getsockname()[1]}/v1/realtime"
        yield relay
