"""The kiosk on a virtual sound card whose microphone hears its loudspeaker, with a scripted server:
what of its own voice it sends, and how much memory that takes."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from assistant.clients.caller import questions
from assistant.clients.line import RATE
from room import missing, peak_megabytes, room
from speech.interfaces import Pcm

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "a sound card is there")
ECHO_DB = -10.0
MOST_MB = 120
"""The promise is 150; what the machine's libraries add has to fit between."""
DELTA = RATE // 10


class Talker:
    """Speaks as soon as it is called, and keeps what it hears meanwhile."""

    def __init__(self) -> None:
        self.speech = np.concatenate([line.audio() for line in questions()[1:10:3]])
        self.heard: list[Pcm] = []
        self.done = False

    async def answer(self, call: ServerConnection) -> None:
        await call.send(json.dumps({"type": "session.created", "session": {}}))
        speaking = asyncio.create_task(self._speak(call))
        async for raw in call:
            event = json.loads(raw)
            if "audio" in event:
                self.heard.append(np.frombuffer(base64.b64decode(event["audio"]), "<i2"))
        await speaking

    async def _speak(self, call: ServerConnection) -> None:
        await asyncio.sleep(1)
        for at in range(0, len(self.speech), DELTA):
            audio = base64.b64encode(self.speech[at : at + DELTA].tobytes()).decode()
            delta = {"type": "response.output_audio.delta", "item_id": "a", "delta": audio}
            await call.send(json.dumps(delta))
            await asyncio.sleep(DELTA / RATE)
        self.done = True


def level(pcm: Pcm) -> float:
    """In dB of a step of the 16 bits."""
    return float(10 * np.log10(np.mean(np.square(pcm.astype(np.float64))) + 1e-9))


async def until(happened: Callable[[], bool], timeout: float) -> None:
    async with asyncio.timeout(timeout):
        while not happened():  # noqa: ASYNC110  # another process has no event for it
            await asyncio.sleep(0.1)


async def test_what_it_says_is_not_what_it_hears(tmp_path: Path) -> None:
    talker = Talker()
    async with serve(talker.answer, "127.0.0.1", 0) as serving, room(tmp_path, ECHO_DB) as place:
        server = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
        button = "sh -c 'sleep 1; echo pressed; sleep 60'"
        async with (
            place.client(
                tmp_path / "printed", "kiosk", "--server", server, "--button", button
            ) as kiosk,
            place.recording() as played,
        ):
            await until(lambda: talker.done, 60)
            assert peak_megabytes(kiosk) < MOST_MB
            kiosk.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await kiosk.wait() == 0
    spoken = level(talker.speech)
    assert level(np.concatenate(played)) > spoken - 10, "it was to be heard"
    settled = np.concatenate(talker.heard)[2 * RATE :]
    assert len(settled) > RATE
    assert level(settled) < spoken + ECHO_DB - 20
