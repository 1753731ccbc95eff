"""POST /v1/audio/speech and /v1/audio/transcriptions: the voice and the ear alone."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import soundfile
import soxr
from msgspec import Meta, Struct
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from assistant import transcribe
from assistant.engines import Engines
from assistant.http_common import ApiError, limited, while_connected
from speech.interfaces import RATE, Audio, Pcm, Speech, SpeechError

OUTPUT_RATE = 24_000
"""Hz; what clients of the `pcm` format expect."""
_FILE_BYTES = 25 * 1_048_576
_FILE_SECONDS = 4 * 3600
_TEXT_BYTES = 65_536
_FILES = {"flac": ("FLAC", None), "mp3": ("MP3", None), "opus": ("OGG", "OPUS")}
_MEDIA = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}
_SPEEDS = (0.5, 2.0)
"""The slowest and the fastest that every synthesiser can speak."""


class SpeechRequest(Struct):
    """Fields that this server has no use for are ignored, as are unknown names."""

    input: Annotated[str, Meta(max_length=4096)]
    model: str = ""
    voice: str | dict[str, str] = ""
    response_format: Literal["pcm", "wav", "flac", "mp3", "opus"] = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0


async def speech(request: Request) -> Response:
    engines = _engines(request)
    body = await limited(request, _TEXT_BYTES).body()
    try:
        asked = msgspec.json.decode(body, type=SpeechRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"expected a speech request: {error}") from error
    media = _MEDIA[asked.response_format]
    pieces = _spoken(engines, asked)
    if asked.response_format in _FILES:
        return Response(await while_connected(request, _file(pieces, asked)), media_type=media)
    # The first piece is awaited here, so that a failure before it still has its own status.
    first = await while_connected(request, anext(pieces, b""))
    header = _wav_header() if asked.response_format == "wav" else b""
    return StreamingResponse(_stream(header + first, pieces), media_type=media)


async def transcriptions(request: Request) -> Response:
    engines = _engines(request)
    try:
        form = limited(request, _FILE_BYTES + _TEXT_BYTES).form(max_files=1, max_fields=20)
        async with form as fields:
            content, asked = await _recording(fields)
    except HTTPException as error:
        raise ApiError(400, f"expected multipart/form-data: {error.detail}") from error
    audio = await asyncio.to_thread(_decoded, content)
    language = asked["language"] or request.app.state.service.config.asr.language
    work = transcribe.transcribe(engines, audio, language=language, context=asked["prompt"])
    try:
        found = await while_connected(request, work)
    except SpeechError as error:
        raise ApiError(500, str(error), code="model_failed") from error
    answer = found.to_format(asked["response_format"])
    return PlainTextResponse(answer) if isinstance(answer, str) else JSONResponse(answer)


async def _recording(form: FormData) -> tuple[bytes, dict[str, str]]:
    """The file's content and the other fields that matter here. Raises ApiError."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "expected an audio file, got none", param="file")
    asked = {}
    for name, default in (("language", ""), ("prompt", ""), ("response_format", "json")):
        value = form.get(name)
        asked[name] = value if isinstance(value, str) and value else default
    if asked["response_format"] not in transcribe.FORMATS:
        expected, came = ", ".join(transcribe.FORMATS), asked["response_format"]
        raise ApiError(400, f"expected one of {expected}, got {came!r}", param="response_format")
    return await file.read(), asked


def _engines(request: Request) -> Engines:
    service = request.app.state.service
    service.access.check(request.headers)
    engines: Engines = service.ready()
    return engines


async def _spoken(engines: Engines, asked: SpeechRequest) -> AsyncIterator[bytes]:
    """PCM16 at OUTPUT_RATE, a sentence at a time, so that calls get their turn in between."""
    synthesizer = engines.synthesizer
    voice = asked.voice if isinstance(asked.voice, str) else asked.voice.get("id", "")
    speed = min(max(asked.speed, _SPEEDS[0]), _SPEEDS[1])
    steps = synthesizer.synthesize(asked.input, voice=voice, speed=speed)
    resampler = soxr.ResampleStream(synthesizer.sample_rate, OUTPUT_RATE, 1, "int16")
    same = synthesizer.sample_rate == OUTPUT_RATE
    try:
        while (piece := await engines.run("tts", partial(_next, steps))) is not None:
            yield (piece.pcm if same else resampler.resample_chunk(piece.pcm)).tobytes()
    except SpeechError as error:
        raise ApiError(500, str(error), code="model_failed") from error
    if not same:
        yield resampler.resample_chunk(np.empty(0, np.int16), last=True).tobytes()


def _next(steps: Iterator[Speech]) -> Speech | None:
    return next(steps, None)


async def _stream(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


async def _file(pieces: AsyncIterator[bytes], asked: SpeechRequest) -> bytes:
    pcm = np.frombuffer(b"".join([piece async for piece in pieces]), np.int16)
    return await asyncio.to_thread(_encoded, pcm, asked.response_format)


def _encoded(pcm: Pcm, name: str) -> bytes:
    container, subtype = _FILES[name]
    file = io.BytesIO()
    soundfile.write(file, pcm, OUTPUT_RATE, subtype=subtype, format=container)
    return file.getvalue()


def _wav_header() -> bytes:
    """Of a stream whose length is not known: both sizes say "to the end"."""
    unknown, rate, width = 0xFFFFFFFF, OUTPUT_RATE, 2
    format_ = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * width, width, 8 * width)
    return (
        b"RIFF"
        + struct.pack("<I", unknown)
        + b"WAVEfmt "
        + format_
        + b"data"
        + struct.pack("<I", unknown)
    )


def _decoded(content: bytes) -> Audio:
    """The audio of a file, shape (n,) at RATE. Raises ApiError."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            seconds = file.frames / file.samplerate
            if seconds > _FILE_SECONDS:
                message = f"expected at most {_FILE_SECONDS} s of audio, got {seconds:.0f} s"
                raise ApiError(413, message, code="audio_too_long", param="file")
            samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        message = f"expected a wav, flac, mp3 or ogg file: {error.error_string}"
        raise ApiError(400, message, param="file") from error
    mono = samples.mean(axis=1, dtype=np.float32)
    audio: Any = soxr.resample(mono, rate, RATE)
    return np.asarray(audio, np.float32)
