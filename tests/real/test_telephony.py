"""A telephone's audio through the real models: asked at 8 kHz mu-law, answered the same way."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect

from assistant import audiofile
from assistant.clients.caller import FOLDER
from assistant.config import Config, LlmConfig, ServerConfig, TtsConfig
from speech.audio import to_float, ulaw_decode, ulaw_encode
from speech.interfaces import RATE, Audio
from tests.loopback import serving
from tests.phone import PACKET, media, start

CONFIG = Config(
    server=ServerConfig(port=0),
    llm=LlmConfig(model="qwen2.5-coder-0.5b", temperature=0.0, context=1024),
    tts=TtsConfig(engine="piper"),
)


async def speak(line: ClientConnection, question: Audio) -> None:
    """The question, and then silence, in real time, until cancelled."""
    telephone = soxr.resample(question, RATE, 8000)
    at = 0
    while True:
        packet = np.zeros(PACKET, np.float32)
        heard = telephone[at : at + PACKET]
        packet[: len(heard)] = heard
        sound = ulaw_encode((packet * 32767).astype(np.int16))
        await line.send(json.dumps(media(at // 8, sound)))
        at += PACKET
        await asyncio.sleep(0.02)


async def answered(line: ClientConnection) -> bytes:
    """What is said until nothing has been for six seconds; a busy machine pauses in the middle."""
    audio = b""
    try:
        while True:
            async with asyncio.timeout(6 if audio else 60):
                message = json.loads(await line.recv())
            if message["event"] == "media":
                audio += base64.b64decode(message["media"]["payload"])
            if message["event"] == "mark":
                await line.send(json.dumps(message))
    except TimeoutError:
        return audio


async def test_a_question_on_the_telephone_is_answered() -> None:
    question = audiofile.read(FOLDER / "france-af_heart.flac")
    async with serving(None, CONFIG) as server:
        async with connect(f"ws://{server.host}/telephony/twilio") as line:
            await line.send(json.dumps(start()))
            speaking = asyncio.create_task(speak(line, question))
            audio = await answered(line)
            speaking.cancel()
        engines = server.service.engines
        assert engines is not None
        wide = soxr.resample(to_float(ulaw_decode(audio)), 8000, RATE)
        heard = await engines.run("asr", lambda: engines.recognizer.transcribe(wide, language="en"))
    assert "Paris" in heard.text
