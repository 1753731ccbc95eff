"""What every client does with a call, whatever its microphone and loudspeaker are: it plays the
reply, falls silent for the caller, and tells the server what of a reply was heard."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable

import numpy as np

from assistant.clients.line import RATE, Event, Line
from assistant.clients.loudspeaker import Loudspeaker
from speech.interfaces import Pcm

_REPORT_EVERY = 0.2
"""Seconds between two reports of how much has been played."""


class Handset:
    """One call's line and loudspeaker."""

    def __init__(self, line: Line, position: Callable[[], int]) -> None:
        """`position` counts the samples that the loudspeaker has taken since the call began."""
        self.line = line
        self.speaker = Loudspeaker()
        self.latency = 0
        """Samples until what the loudspeaker takes is heard."""
        self._position = position
        self._item = ""
        self._reported = 0

    async def events(self) -> AsyncIterator[Event]:
        """The server's events once they are acted on, audio deltas with the number of their
        `samples` in place of them. Ends in a CallError."""
        async for event in self.line.events():
            match event["type"]:
                case "response.output_audio.delta":
                    pcm = np.frombuffer(base64.b64decode(event.pop("delta")), "<i2")
                    event["samples"] = len(pcm)
                    self._play(event["item_id"], pcm)
                case "input_audio_buffer.speech_started":
                    await self.fall_silent()
            yield event

    async def interrupt(self) -> None:
        """The caller wants no more of this reply."""
        await self.line.send({"type": "output_audio_buffer.clear"})
        await self.fall_silent()

    async def fall_silent(self) -> None:
        if cut := self.speaker.flush(self._position()):
            item_id, samples = cut
            await self.line.send(
                {
                    "type": "conversation.item.truncate",
                    "item_id": item_id,
                    "content_index": 0,
                    "audio_end_ms": samples * 1000 // RATE,
                }
            )

    async def report(self) -> None:
        """Tell the server how much has been played, until cancelled."""
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            heard = self.speaker.heard(self._item, self._position() - self.latency)
            if heard != self._reported and self.line.up:
                self._reported = heard
                await self.line.send(
                    {
                        "type": "conch.playback",
                        "item_id": self._item,
                        "content_index": 0,
                        "played_ms": heard * 1000 // RATE,
                    }
                )

    def _play(self, item_id: str, pcm: Pcm) -> None:
        if item_id != self._item:
            self._item, self._reported = item_id, 0
        self.speaker.play(item_id, pcm, self._position())
