"""One call, from a microphone frame to a spoken answer. Read it top to bottom.

_receive      a client event comes in; requests.py says what each kind does
hear          its audio becomes frames, voice activity and speech events      (steps 1, 2)
_words        words that will not change reach client, manager and model         (step 3)
turn          the turn manager says what follows, _carry_out does it         (steps 4, 6)
_start_reply  a reply is generated, spoken and paced to the client               (step 5)
keep_heard    what was heard of it stays in the conversation                     (step 7)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant import floor, requests
from assistant.caller import CallerTurns, Committed
from assistant.config import Config
from assistant.conversation import Item
from assistant.hearing import Ear, Stretch, Words
from assistant.interruption import echoed
from assistant.memory import Memory
from assistant.outbox import Outbox, Transport
from assistant.phrases import phrase
from assistant.pictures import look
from assistant.policy import defaults, turn_policy
from assistant.record import TurnLog
from assistant.reply import Reply
from assistant.tasks import Tasks
from assistant.turns import TurnManager
from assistant.upkeep import Upkeep
from assistant.voice import Mouth
from assistant.window import Window
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from assistant.wire.response import ResponseStream
from assistant.wire.settings import ResponseSettings, SessionSettings
from llm.interfaces import (
    Finished,
    LanguageModelError,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
)
from speech.interfaces import RATE, Audio, Pcm, SpeechError

if TYPE_CHECKING:
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

_EXTENSION = "conch.1"
CAPABILITIES = {"version": 1, "extensions": [_EXTENSION]}
_JUST_SAID = 300
"""Characters of a reply that may still echo."""
_MISSING_AUDIO = 0.5
"""Seconds without audio, while the caller speaks, that count as silence from then on."""


class Session:
    """One websocket's call. `run` returns when it is over and nothing of it is left."""

    def __init__(
        self,
        transport: Transport,
        engines: Engines,
        config: Config,
        *,
        model: str = "",
        extensions: frozenset[str] = frozenset(),
        session: dict[str, Any] | None = None,
    ) -> None:
        """`session`: the settings that it begins with, where they are not the server's."""
        self.config, self.extensions = config, extensions
        name = wire.new_id("sess")
        self.settings = SessionSettings(
            defaults(config, model or engines.llm.name), name, CAPABILITIES
        )
        self.settings.update(session or {})
        window = Window.within(config.llm.window, config.llm.context)
        self.memory = Memory(window, sees=engines.sees)
        self.caller = CallerTurns(self.send, self.memory.conversation, self.settings)
        self.turns = TurnManager()
        self.ear = Ear(engines, config.turns, self._words)
        self.reply: Reply | None = None
        self.asked: dict[str, ResponseSettings] = {}
        """What the response.create events ask for that wait for their turn."""
        self._recognition = self._speech_end = 0.0
        self._transport, self._engines = transport, engines
        self._outbox = Outbox(transport, config.server.send_buffer_bytes)
        self._loop = asyncio.get_running_loop()
        self._log = TurnLog(config.call.record_turns, name, self.turns.policy, self._loop.time())
        self.llm = engines.llm.open()
        self.llm_free = asyncio.Lock()
        self._unread: str | None = None
        """Words of the turn under way that the model is to read next."""
        self._reading: asyncio.Task[None] | None = None
        self._tasks = Tasks(self.report)
        self._upkeep = Upkeep(self, engines, self._tasks)
        self._transcriptions: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._gap_check: asyncio.TimerHandle | None = None
        self._last_audio = 0.0

    async def run(self) -> None:
        """Serve the call until the client hangs up, or has to be hung up on."""
        sending = asyncio.create_task(self._outbox.run(), name="send")
        receiving = asyncio.create_task(self._receive(), name="receive")
        try:
            self.send([wire.session_created(self.settings.to_wire())])
            self.configure()
            await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._close(sending, receiving)

    async def _close(self, *tasks: asyncio.Task[None]) -> None:
        """Stop everything before waiting for any of it: what still runs could start more."""
        for timer in (self._alarm, self._gap_check):
            if timer:
                timer.cancel()
        self.ear.forget()
        self._tasks.cancel(*tasks)
        if self.reply:
            await self.reply.abandon()
        await self.ear.close()
        await self._tasks.ended(*tasks)
        await self._upkeep.close()
        async with self.llm_free:
            await self.llm.close()
        self._log.close()

    def send(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self._outbox.put(wire.encode(event))

    # --- a client event comes in ----------------------------------------------------------

    async def _receive(self) -> None:
        while (raw := await self._transport.receive()) is not None:
            event_id = ""
            try:
                event = wire.decode(raw, self.config.server.max_frame_bytes)
                event_id = event.event_id
                await requests.handle(self, event)
            except WireError as error:
                self.send([wire.error(error)])
            except Exception as error:  # noqa: BLE001  # one event's fault must not end the call
                self.report(error, event_id)

    def configure(self) -> None:
        """Take the session's settings over, as they are now."""
        detection = self.settings.turn_detection
        self.ear.language = self.settings.language
        if detection is None and self.turns.turn is not None:
            self.turn(floor.CommitRequested())
        self.turn(floor.Configured(turn_policy(self.config.turns, detection)))
        self.prefill("")

    # --- audio to speech events -----------------------------------------------------------

    async def hear(self, audio: Audio, rate: int) -> None:
        """The caller's next audio, shape (n,) at `rate` Hz. Waits while recognition is behind."""
        await self.ear.room()
        self._last_audio = self._loop.time()
        if self.settings.turn_detection is None and not self.caller.item_id:
            self.ear.begin(at=self.ear.end)
            self.caller.open()
        self._listen(audio, rate)

    def _listen(self, audio: Audio, rate: int) -> None:
        detect = self.settings.turn_detection is not None
        for event in self.ear.push(audio, rate, detect=detect):
            if isinstance(event, floor.SpeechPaused):
                self._speech_end = self._loop.time() - event.silence
            self.turn(event)
        if self.ear.speaking and self._gap_check is None:
            self._silence_where_audio_is_missing()

    def _silence_where_audio_is_missing(self) -> None:
        """A client that stops sending in mid-speech has fallen silent: muted, or gone quiet."""
        self._gap_check = None
        if self._loop.time() - self._last_audio >= _MISSING_AUDIO:
            self._listen(np.zeros(RATE // 10, np.float32), RATE)
        if self.ear.speaking and self._gap_check is None:
            self._gap_check = self._loop.call_later(0.1, self._silence_where_audio_is_missing)

    # --- words ----------------------------------------------------------------------------

    def _words(self, words: Words) -> None:
        """The words of the turn so far: those that will not change, and with those that may."""
        stable, likely = words.stable, words.likely
        turn = self.turns.turn
        if turn is None or turn.announced:
            self.caller.caption(stable)
        said = floor.Heard(stable, likely, words.quiet, words.confidence)
        self.turn(replace(said, echoed=self._echoed(likely), below=self.ear.below))

    def _echoed(self, words: str) -> float:
        """Part of the caller's words that the reply has just said itself."""
        return echoed(words, self.reply.text[-_JUST_SAID:]) if self.reply else 0.0

    async def _transcribe(self, pause: int) -> None:
        began = self._loop.time()
        try:
            words = await self.ear.finish()
        except SpeechError as error:
            self.report(error)
            self.turn(floor.RecognitionFailed(pause))
            return
        self._recognition = self._loop.time() - began
        text = words.stable
        self.turn(floor.Transcribed(pause, text, words.confidence, self._echoed(text)))

    async def _score(self, pause: int) -> None:
        try:
            self.turn(floor.EndpointScored(pause, *await self.ear.ending()))
        except SpeechError as error:
            _log.error("this turn's end is judged by its silence alone: %s", error)

    def prefill(self, text: str) -> None:
        """Let the model read the conversation and the turn so far, while it has nothing to do."""
        if self.reply is None:
            self._unread = text
            if self._reading is None or self._reading.done():
                self._reading = self._tasks.spawn(self._read_ahead())

    async def _read_ahead(self) -> None:
        while self._unread is not None:
            async with self.llm_free:
                text, self._unread = self._unread, None
                prompt = self.memory.prompt(self.settings.response(), text)
                try:
                    async with self._engines.undisturbed():
                        ends = await self.llm.prefill(prompt)
                    if text and ends is not None:
                        self.turn(floor.Rated(text, ends))
                except LanguageModelError as error:
                    _log.warning("nothing was read ahead: %s", error)

    # --- who has the floor ----------------------------------------------------------------

    def turn(self, event: floor.Event) -> None:
        """Tell the turn manager, and do what it says."""
        now = self._loop.time()
        self._obey(self._log.note(now, event, self.turns.receive(event, now)))

    def _obey(self, commands: list[floor.Command]) -> None:
        for command in commands:
            self._carry_out(command)
        if self._alarm:
            self._alarm.cancel()
        due = self.turns.timer()
        self._alarm = None if due is None else self._loop.call_at(due, self._fire)
        self._upkeep.heed(quiet=self._quiet)

    def _fire(self) -> None:
        self._alarm = None
        now = self._loop.time()
        self._obey(self._log.note(now, None, self.turns.fire(now)))

    def _carry_out(self, command: floor.Command) -> None:  # noqa: C901, PLR0912  # a table
        match command:
            case floor.BeginTurn():
                self.ear.begin()
                self.caller.open()
            case floor.AnnounceSpeech():
                self.caller.started(self.ear.speech_from_ms)
            case floor.ScoreEndpoint(pause):
                self._tasks.spawn(self._score(pause))
            case floor.Transcribe(pause):
                self._tasks.spawn(self._transcribe(pause))
            case floor.Prefill(text):
                self.prefill(text)
            case floor.CommitTurn(_, text):
                self._commit_turn(text)
            case floor.DiscardTurn(_, reason, announced):
                self.discard(reason, announced=announced)
            case floor.StartReply(number, speculative, request, said):
                self._start_reply(number, request, said, speculative=speculative)
            case floor.Say(number, name, request):
                self._start_reply(number, request, saying=phrase(name, self._language))
            case floor.PublishReply():
                self._publish()
            case floor.HoldReply():
                self._current_reply.hold()
            case floor.ResumeReply():
                self._current_reply.resume()
            case floor.DropReply():
                self._current_reply.cancel("")
                self.reply = None
            case floor.CancelReply(_, reason):
                self._current_reply.cancel(reason)
                self.ear.silenced(self._loop.time() - self._last_audio)
                self.memory.keep_heard(self._current_reply)
                self.reply = None
            case floor.Refuse(code):
                raise requests.refusal(code)

    # --- the caller's turn is over --------------------------------------------------------

    def _commit_turn(self, text: str) -> None:
        self.caller.stopped(self.ear.speech_to_ms)
        self.caller.settle(self.caller.commit(self.ear.turn_seconds), text)
        self.ear.settle(caller=True)
        self.ear.forget()
        self.ear.cut()
        if self.settings.turn_detection is None:
            # It was switched off in mid-speech: what came during recognition is not lost.
            self.ear.begin(at=self.ear.finished_to)
            self.caller.open()

    def discard(self, reason: str, *, announced: bool) -> None:
        """What was heard takes no turn: noise, a backchannel, or cleared by the client."""
        _log.info("speech that took no turn: %s", reason)
        if announced:
            self.caller.stopped(self.ear.speech_to_ms)
        self.caller.close()
        self.ear.settle(caller=False)
        self.ear.forget()

    def commit_buffer(self) -> None:
        """Push-to-talk: the client says that its turn is over."""
        self.ear.drain()
        heard = self.ear.so_far()
        self._before_replies(self._settle(self.caller.commit(self.ear.turn_seconds), heard))

    def look(self, item: Item, event_id: str) -> None:
        """Read the pictures of a new item to a model that cannot see them."""
        if item.pictures and not self._engines.sees:
            self._before_replies(look(item, self._engines, self.send, event_id))

    def _before_replies(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what the next replies have to wait for."""
        task = self._tasks.spawn(work)
        self._transcriptions.add(task)
        task.add_done_callback(self._transcriptions.discard)

    async def _settle(self, turn: Committed, heard: Stretch) -> None:
        try:
            text = (await self.ear.finish(heard)).stable
        except SpeechError as error:
            self.report(error)
            text = ""
        self.caller.settle(turn, text)

    # --- the reply ------------------------------------------------------------------------

    def _start_reply(
        self,
        number: int,
        request: str,
        said: str = "",
        *,
        speculative: bool = False,
        saying: str = "",
    ) -> None:
        """Begin to generate: for what a response.create asked, else for the session."""
        settings = self.asked.pop(request, None) or self.settings.response()
        # Words that are not yet in the conversation are added now: they may be by the time it runs.
        prompt = self.memory.prompt(settings, said) if said else None
        source = _sentence(saying) if saying else self._generate(settings, prompt)
        mouth = Mouth(self._engines, settings) if settings.speaks else None
        stream = ResponseStream(wire.new_id("resp"), settings)
        lead = self.config.call.lead_ms / 1000
        self.reply = Reply(number, stream, source, mouth, self, lead)
        self.reply.remembered = settings.in_conversation
        self.reply.timing.recognition = self._recognition
        self._unread = None
        if self._reading:
            self._reading.cancel()
        self.reply.start()
        if not speculative:
            self._publish()

    def _publish(self) -> None:
        reply = self._current_reply
        reply.timing.speech_end = self._speech_end
        reply.publish()

    async def _generate(
        self, settings: ResponseSettings, prompt: Prompt | None
    ) -> AsyncGenerator[ReplyPart, None]:
        """The model's answer to `prompt`, or to the conversation as it is when that is complete."""
        if self._transcriptions:
            await asyncio.wait(self._transcriptions)
        sampling = Sampling(settings.temperature, settings.max_tokens)
        async with self.llm_free:
            prompt = prompt or self.memory.prompt(settings)
            parts = self.llm.reply(prompt, sampling)
            with self._engines.answering():
                async with aclosing(parts):
                    async for part in parts:
                        yield part

    @property
    def _current_reply(self) -> Reply:
        if self.reply is None:
            raise RuntimeError(f"no reply under way in state {self.turns.state}")
        return self.reply

    # --- what a reply tells its session ---------------------------------------------------

    def plays(self, pcm: Pcm, rate: int, when: float) -> None:
        self.ear.plays(pcm, rate, when - self._last_audio)

    def reply_ready(self, reply: Reply) -> None:
        self.turn(floor.ReplyReady(reply.number))

    def reply_made(self) -> None:
        self._upkeep.heed(quiet=self._quiet)

    def reply_delivered(self, reply: Reply) -> None:
        self.turn(floor.ReplyDelivered(reply.number, reply.text))

    def reply_finished(self, reply: Reply) -> None:
        if self.reply is reply:
            self.reply = None
        self.turn(floor.ReplyFinished(reply.number))

    def reply_failed(self, error: Exception) -> str:
        self.report(error)
        return phrase("engine_failed", self._language)

    def timing(self, reply: Reply) -> dict[str, Any] | None:
        """What response.done tells a client that asked for conch's extensions."""
        return {"timing_ms": reply.timing.milliseconds()} if _EXTENSION in self.extensions else None

    # --- housekeeping ---------------------------------------------------------------------

    @property
    def _quiet(self) -> bool:
        """Whether nothing is to be understood or answered: at most a reply is played out."""
        replying = self.reply is not None and not self.reply.made
        return not (replying or self.turns.turn or self.ear.speaking or self._transcriptions)

    @property
    def _language(self) -> str:
        return self.ear.language or self.ear.spoken_language

    def report(self, error: Exception, event_id: str = "") -> None:
        """An engine or the server itself failed: log it, tell the client."""
        _log.error("%s: %s", type(error).__name__, error, exc_info=error)
        known = isinstance(error, SpeechError | LanguageModelError)
        message = str(error) if known else f"{type(error).__name__} in the server; see its log"
        code = "engine_failed" if known else "internal_error"
        problem = WireError(message, code=code, kind="server_error", event_id=event_id)
        self.send([wire.error(problem)])


async def _sentence(text: str) -> AsyncGenerator[ReplyPart, None]:
    """A reply that needs no model."""
    yield TextDelta(text)
    yield Finished("stop")
