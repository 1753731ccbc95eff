"""Recordings that a client puts into the conversation as an item: their words are recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import soxr

from assistant.transcribe import transcribe
from assistant.wire import realtime as wire
from assistant.wire.settings import AudioFormat, SessionSettings
from speech.audio import alaw_decode, pcm16_from_bytes, to_float, ulaw_decode
from speech.interfaces import RATE, Audio, Pcm, SpeechError

if TYPE_CHECKING:
    from assistant.conversation import Item
    from assistant.engines import Engines

_DECODE = {
    "audio/pcm": pcm16_from_bytes,
    "audio/pcmu": ulaw_decode,
    "audio/pcma": alaw_decode,
}


def decoded(data: bytes, form: AudioFormat) -> Audio:
    """Whole samples of a session's input format, as audio of shape (n,) at its rate."""
    pcm: Pcm = _DECODE[form.name](data)
    return to_float(pcm)


async def listen(
    item: Item,
    engines: Engines,
    settings: SessionSettings,
    send: Callable[[list[wire.Event]], None],
    report: Callable[[Exception], None],
) -> None:
    """Put the words of the item's recordings in their place, and tell the client."""
    form = settings.input_format
    parts = list(item.wire["content"])
    for at, data in item.recordings.items():
        whole = len(data) - len(data) % form.sample_width
        audio = soxr.resample(decoded(data[:whole], form), form.rate, RATE)
        try:
            text = (await transcribe(engines, audio, language=settings.language)).text
        except SpeechError as error:
            report(error)
            text = ""
        parts[at] = {"type": "input_audio", "transcript": text}
        if not settings.transcription:
            continue
        if text:
            told = wire.transcription_completed(item.id, text, len(audio) / RATE, at)
        else:
            told = wire.transcription_failed(item.id, "no words were recognised", at)
        send([told])
    # Of the audio nothing is kept: calls are long.
    item.recordings = {}
    item.replace(parts)
