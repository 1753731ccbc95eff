"""Home Assistant's ear, voice and conversation: a server of the Wyoming protocol.

One connection has one Client here, and asks for one thing after the other. Words go out while
their audio still comes in (assistant/hearing.py, as in a call without turn detection), speech
while its text still comes in. Source: the README of the `wyoming` package.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from assistant.clauses import ClauseCutter
from assistant.config import Config
from assistant.engines import Engines, LoadError, load_engines
from assistant.hearing import Ear, Words
from assistant.wyoming_info import describe
from llm.interfaces import LanguageModelError, Message, Prompt, Sampling, TextDelta
from speech.audio import to_float
from speech.interfaces import Audio, Pcm, SpeechError

_log = logging.getLogger(__name__)

_CONVERSATIONS = 32
"""Conversations remembered; the one longest silent is forgotten first."""
_MESSAGES = 20
"""Messages remembered of each."""
_CLAUSES_AHEAD = 64
"""Clauses written but not yet spoken; beyond that no more of the text is read."""
_PIECE = 2048
"""Samples in one audio message."""


@dataclass
class Assist:
    """What all connections share."""

    config: Config
    engines: Engines
    conversations: OrderedDict[str, deque[Message]] = field(default_factory=OrderedDict)
    slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.config.server.max_calls)

    def info(self) -> Info:
        return describe(self.config, self.engines)

    async def answer(self, text: str, conversation: str) -> AsyncGenerator[str, None]:
        """The model's reply, piece by piece; remembered for a `conversation` that has an id.

        Raises LanguageModelError."""
        history = self.conversations.pop(conversation, deque(maxlen=_MESSAGES))
        asked = Message("user", text)
        system = Message("system", self.config.call.instructions)
        sampling = Sampling(self.config.llm.temperature, self.config.llm.max_tokens)
        said = ""
        async with self.slots:
            model = self.engines.llm.open()
            try:
                prompt = Prompt((system, *history, asked))
                async with aclosing(model.reply(prompt, sampling)) as parts:
                    async for part in parts:
                        if isinstance(part, TextDelta):
                            said += part.text
                            yield part.text
            finally:
                await model.close()
                if said:
                    history += [asked, Message("assistant", said)]
                if conversation and history:
                    self.conversations[conversation] = history
                    while len(self.conversations) > _CONVERSATIONS:
                        self.conversations.popitem(last=False)


async def serve(config: Config, uri: str) -> None:
    """Serve until cancelled or told to stop (SIGTERM). Raises LoadError."""
    try:
        server = AsyncServer.from_uri(uri)
    except ValueError as error:
        raise LoadError(f"--uri: expected tcp://HOST:PORT or unix://PATH, got {uri!r}") from error
    engines = await load_engines(
        config, lambda stage, done: _log.info("%s %.0f %%", stage, 100 * done)
    )
    try:
        _log.info("serving Home Assistant at %s", uri)
        await server.run(partial(Client, Assist(config, engines)))
    finally:
        await server.stop()
        await engines.aclose()


class Client(AsyncEventHandler):
    """One connection."""

    def __init__(
        self, assist: Assist, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self._assist = assist
        self._language = assist.config.asr.language
        self._hearing: _Hearing | None = None
        self._speaking: _Speaking | None = None

    async def run(self) -> None:
        """Until the client is gone, or sends what is no event."""
        try:
            await super().run()
        except (ConnectionError, EOFError):
            _log.info("a client left in the middle of something")
        except Exception:  # noqa: BLE001  # one client's fault must not stay unsaid
            _log.exception("a connection broke")

    async def handle_event(self, event: Event) -> bool:
        """Carry one event out; what goes wrong with it is answered, and the next one taken."""
        try:
            await self._handle(event)
        except (KeyError, TypeError, ValueError) as error:
            await self._fail(f"expected a complete {event.type} event: {error!r}", "bad-event")
        except SpeechError as error:
            _log.error("%s", error)
            await self._fail(str(error), "engine-failed")
        return True

    async def disconnect(self) -> None:
        await self._reset()

    async def _handle(self, event: Event) -> None:  # noqa: C901  # a table
        kind = event.type
        if Describe.is_type(kind):
            await self.write_event(self._assist.info().event())
        elif Ping.is_type(kind):
            await self.write_event(Pong(text=Ping.from_event(event).text).event())
        elif Transcribe.is_type(kind):
            wanted = Transcribe.from_event(event).language or self._assist.config.asr.language
            self._language = wanted[:2].lower()
        elif AudioStart.is_type(kind):
            await self._reset()
            self._hearing = _Hearing(self._assist, self._language)
            await self.write_event(TranscriptStart(language=self._language or None).event())
        elif AudioChunk.is_type(kind) and self._hearing:
            if words := await self._hearing.hear(AudioChunk.from_event(event)):
                await self.write_event(TranscriptChunk(words).event())
        elif AudioStop.is_type(kind) and self._hearing:
            await self._transcribed(self._hearing)
        elif Transcript.is_type(kind):
            await self._converse(Transcript.from_event(event))
        elif SynthesizeStart.is_type(kind):
            await self._reset()
            self._speaking = _Speaking(self, SynthesizeStart.from_event(event).voice)
        elif SynthesizeChunk.is_type(kind) and self._speaking:
            await self._speaking.write(SynthesizeChunk.from_event(event).text)
        elif SynthesizeStop.is_type(kind) and self._speaking:
            await self._spoken(self._speaking)
            await self.write_event(SynthesizeStopped().event())
        elif Synthesize.is_type(kind) and not self._speaking:
            # Amid a stream it only repeats the text, for servers that know no streams.
            whole = Synthesize.from_event(event)
            self._speaking = _Speaking(self, whole.voice)
            await self._speaking.write(whole.text)
            await self._spoken(self._speaking)

    async def _transcribed(self, hearing: _Hearing) -> None:
        text, rest = await hearing.finish()
        if rest:
            await self.write_event(TranscriptChunk(rest).event())
        # The whole of it, for clients that know no streams.
        await self.write_event(Transcript(text, language=hearing.language or None).event())
        await self.write_event(TranscriptStop().event())
        self._hearing = None

    async def _converse(self, asked: Transcript) -> None:
        context = asked.context or {}
        conversation = str(context.get("conversation_id") or "")
        said = ""
        await self.write_event(HandledStart(context=asked.context).event())
        try:
            async with aclosing(self._assist.answer(asked.text, conversation)) as pieces:
                async for piece in pieces:
                    said += piece
                    await self.write_event(HandledChunk(piece).event())
        except LanguageModelError as error:
            _log.error("%s", error)
            await self.write_event(NotHandled(str(error), context=asked.context).event())
            return
        await self.write_event(Handled(said, context=asked.context).event())
        await self.write_event(HandledStop().event())

    async def _spoken(self, speaking: _Speaking) -> None:
        """The text is complete: return when it has been said."""
        try:
            await speaking.finish()
        finally:
            self._speaking = None

    async def _fail(self, text: str, code: str) -> None:
        await self._reset()
        await self.write_event(Error(text, code).event())

    async def _reset(self) -> None:
        """Stop what was under way."""
        if self._hearing:
            self._hearing.stop()
        if self._speaking:
            await self._speaking.stop()
        self._hearing = self._speaking = None

    @property
    def assist(self) -> Assist:
        return self._assist


class _Hearing:
    """One recording on its way to words."""

    def __init__(self, assist: Assist, language: str) -> None:
        self._stable = self._told = ""
        self._ear = Ear(assist.engines, assist.config.turns, self._words)
        self._ear.language = language
        self._ear.begin(at=0)

    @property
    def language(self) -> str:
        """As asked for, or as recognised."""
        return self._ear.language or self._ear.spoken_language

    def _words(self, words: Words) -> None:
        self._stable = words.stable

    async def hear(self, chunk: AudioChunk) -> str:
        """The words that the audio so far has made certain, beyond those returned before."""
        await self._ear.room()
        self._ear.push(_mono(chunk), chunk.rate, detect=True)
        return self._beyond(self._stable)

    async def finish(self) -> tuple[str, str]:
        """All words, and those of them that hear() has not returned. Raises SpeechError."""
        # Where nobody spoke, a recogniser would make words of the silence.
        text = (await self._ear.finish()).stable if self._ear.speech_to else ""
        self.stop()
        return text, self._beyond(text)

    def stop(self) -> None:
        self._ear.forget()

    def _beyond(self, text: str) -> str:
        words = text[len(self._told) :]
        self._told += words
        return words


def _mono(chunk: AudioChunk) -> Audio:
    """Shape (n,) at the chunk's rate. Raises ValueError."""
    if chunk.width != 2 or chunk.channels < 1:
        got = f"{8 * chunk.width} bit on {chunk.channels} channels"
        raise ValueError(f"expected 16-bit audio on one channel or more, got {got}")
    pcm = np.frombuffer(chunk.audio, "<i2").reshape(-1, chunk.channels)
    return to_float(pcm[:, 0]) if chunk.channels == 1 else to_float(pcm).mean(axis=1)


class _Speaking:
    """One text on its way to audio, clause by clause, while more of it may still come."""

    def __init__(self, client: Client, voice: SynthesizeVoice | None) -> None:
        self._client = client
        self._settings = client.assist.config.tts
        self._synthesizer = client.assist.engines.synthesizer
        self._voice = self._named(voice)
        self._cutter = ClauseCutter()
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue(_CLAUSES_AHEAD)
        self._task = asyncio.create_task(self._speak())

    async def write(self, text: str) -> None:
        """More of the text; waits while too much of it is unspoken. Raises SpeechError."""
        for clause in self._cutter.push(text):
            await self._put(clause)

    async def finish(self) -> None:
        """Return when all of it has been spoken. Raises SpeechError."""
        for clause in self._cutter.flush():
            await self._put(clause)
        await self._put(None)
        await self._task

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _put(self, clause: str | None) -> None:
        putting = asyncio.ensure_future(self._clauses.put(clause))
        await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            # Nobody takes it any more: the speaker has failed, and says how.
            putting.cancel()
            await self._task

    async def _speak(self) -> None:
        rate = self._synthesizer.sample_rate
        await self._client.write_event(AudioStart(rate=rate, width=2, channels=1).event())
        while (clause := await self._clauses.get()) is not None:
            steps = self._synthesizer.synthesize(
                clause, voice=self._voice, speed=self._settings.speed
            )
            while piece := await self._client.assist.engines.run("tts", partial(next, steps, None)):
                await self._send(piece.pcm)
        await self._client.write_event(AudioStop().event())

    async def _send(self, pcm: Pcm) -> None:
        rate = self._synthesizer.sample_rate
        for at in range(0, len(pcm), _PIECE):
            audio = pcm[at : at + _PIECE].astype("<i2", copy=False).tobytes()
            chunk = AudioChunk(rate=rate, width=2, channels=1, audio=audio)
            await self._client.write_event(chunk.event())

    def _named(self, wanted: SynthesizeVoice | None) -> str:
        """A voice's name; empty leaves it to the synthesiser."""
        if wanted and wanted.name:
            return wanted.name
        language = ((wanted and wanted.language) or "").lower()
        if language:
            for voice in self._synthesizer.voices:
                if voice.language.lower().startswith(language[:2]):
                    return voice.name
        return self._settings.voice
