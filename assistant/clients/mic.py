"""`conch call`: a call in the terminal, with microphone and loudspeaker or a recorded caller."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import soundfile
from rich.console import Console

from assistant.clients.call import Call
from assistant.clients.keys import keys
from assistant.clients.line import RATE, CallError, address
from assistant.clients.soundcard import PortAudioCard
from assistant.clients.view import View
from assistant.clients.wav import WavCaller, load
from speech.interfaces import Pcm

_KEYS = "m mute   space interrupt   q hang up"
_ANSWER_LIMIT = 90.0
"""Seconds in which a recorded caller expects an answer."""
_NOTICED = 1.0
"""Seconds in which the server notices that the recorded caller has spoken, or will speak on."""
_TURNS = {"input_audio_buffer.speech_started", "input_audio_buffer.committed", "response.done"}


class MicCall(Call):
    """A call through the sound card, whose samples are its clock."""

    def __init__(self, url: str, api_key: str, microphone: str, loudspeaker: str) -> None:
        """The names are the sound card's, as PortAudioCard takes them."""
        super().__init__(url, api_key)
        self._card = PortAudioCard(self.speaker.sound, microphone, loudspeaker)

    async def __aenter__(self) -> Self:
        self._card.open()
        self.handset.latency = self._card.latency
        try:
            return await super().__aenter__()
        except BaseException:
            await self._card.close()
            raise

    async def hang_up(self) -> None:
        await super().hang_up()
        await self._card.close()

    @property
    def now(self) -> float:
        """Seconds of the microphone since the call began."""
        return self.line.said / RATE

    def position(self) -> int:
        return self._card.position

    async def _talk(self) -> None:
        while True:
            await self._say((await self._card.block()).heard)


async def with_microphone(
    server: str, api_key: str = "", microphone: str = "", loudspeaker: str = ""
) -> None:
    """Until either side hangs up. Raises CallError where the server does, or there is no sound."""
    async with MicCall(address(server), api_key, microphone, loudspeaker) as call:
        await _hold(call, call.ended())


async def with_recording(
    server: str, api_key: str, recording: Path, output: Path | None = None
) -> None:
    """The recording is the caller; `output` is written with the caller left, the assistant right.
    Raises CallError."""
    pcm = load(recording)
    async with WavCaller(address(server), api_key) as call:
        await _hold(call, _recite(call, pcm))
        if output:
            soundfile.write(output, call.recording(), RATE)


async def _hold(call: Call, whole: Coroutine[Any, Any, Any]) -> None:
    """Show the call until `whole` of it is over, the user hangs up or the server does."""
    typed: asyncio.Queue[str] = asyncio.Queue()
    view = View(Console(), call, _KEYS, lambda: "muted" if call.muted else "")
    with keys(typed.put_nowait), _ctrl_c(typed):
        beside = [asyncio.create_task(view.show()), asyncio.create_task(call.handset.report())]
        waited = [asyncio.create_task(part) for part in (whole, call.ended(), _obey(call, typed))]
        try:
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waited, *beside):
                task.cancel()
            await asyncio.gather(*waited, *beside, return_exceptions=True)
    for task in done:
        task.result()
    if call.closed:
        raise CallError(f"the call ended: {call.closed}")


async def _obey(call: Call, typed: asyncio.Queue[str]) -> None:
    """Do what the keys say, until one says to hang up."""
    while True:
        match await typed.get():
            case "m":
                call.muted = not call.muted
            case " " | "i":
                await call.handset.interrupt()
            case "q" | "\x04":
                return


async def _recite(call: WavCaller, pcm: Pcm) -> None:
    """Say it, and hear out what comes of it. Raises CallError when nothing does."""
    await call.say(pcm).said.wait()
    await asyncio.sleep(_NOTICED)
    while True:
        if not await call.until(lambda: _answered(call), _ANSWER_LIMIT):
            raise CallError(f"expected an answer in {_ANSWER_LIMIT:g} s, got none")
        await call.played_out()
        await asyncio.sleep(_NOTICED)
        if _answered(call) and call.position() >= call.speaker.end:
            return


def _answered(call: Call) -> bool:
    """Whether the last turn was the assistant's, and is complete."""
    turns = [event["type"] for _, event in call.events if event["type"] in _TURNS]
    return turns[-1:] == ["response.done"]


@contextmanager
def _ctrl_c(typed: asyncio.Queue[str]) -> Iterator[None]:
    """Ctrl-C hangs up."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, typed.put_nowait, "q")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
