"""One call, from a microphone frame to a spoken answer. Read it top to bottom.

_receive      a client event comes in; requests.py says what each kind does
hear          listening.py: its audio becomes speech events, and words      (steps 1 to 3)
turn          driver.py: the turn manager says what follows, _carry_out does it (steps 4, 6)
_start_reply  a reply is generated, spoken and paced to the client               (step 5)
keep_heard    what was heard of it stays in the conversation                     (step 7)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from assistant import floor, requests
from assistant.arrival import Arrival
from assistant.caller import CallerTurns, Committed
from assistant.clock import CallClock
from assistant.config import Config
from assistant.conversation import Item
from assistant.driver import Driver
from assistant.hearing import Stretch
from assistant.listening import Listener, Spoken
from assistant.memory import Memory
from assistant.mind import Mind
from assistant.outbox import Outbox, Transport
from assistant.phrases import phrase
from assistant.pictures import look
from assistant.policy import defaults, turn_policy, window
from assistant.record import TurnLog
from assistant.recordings import listen
from assistant.replay import audio_in
from assistant.reply import Reply
from assistant.resume import ResumableLine
from assistant.tasks import Tasks
from assistant.turns import TurnManager
from assistant.upkeep import Upkeep
from assistant.voice import Mouth
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
    ToolCall,
)
from speech.interfaces import Pcm, SpeechError

if TYPE_CHECKING:
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

EXTENSION = "conch.1"
CAPABILITIES = {"version": 1, "extensions": [EXTENSION]}


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
        self.memory = Memory(window(config, sees=engines.sees), sees=engines.sees)
        self.caller = CallerTurns(self.send, self.memory.conversation, self.settings)
        self.turns = TurnManager()
        self.reply: Reply | None = None
        self.half_sample = b""
        """What an append ended with; a stream is not always cut between samples."""
        self.asked: dict[str, ResponseSettings] = {}
        """What the response.create events ask for that wait for their turn."""
        self._transport, self._engines = transport, engines
        self._line = transport if isinstance(transport, ResumableLine) else None
        self._outbox = self._line or Outbox(transport, config.server.send_buffer_bytes)
        self.clock = CallClock()
        self._arrival = Arrival(self.clock, patient=self._line is not None)
        self._listener = Listener(self, engines, self._arrival)
        self.ear, self.hear = self._listener.ear, self._listener.hear
        self._log = TurnLog(config.call.record_turns, name, self.turns.policy, self.clock.time())
        self._tasks = Tasks(self.report)
        driver = Driver(
            self.turns, self.clock, self._arrival, self._log, self._carry_out, self._settled
        )
        self.turn, self._driver = driver.tell, driver
        self._mind = Mind(engines, self._tasks, self._so_far, self.turn)
        self._upkeep = Upkeep(self, self._mind, engines, self._tasks)
        self._transcriptions: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the call until the client hangs up, or has to be hung up on."""
        sending = asyncio.create_task(self._outbox.run(), name="send")
        receiving = asyncio.create_task(self._receive(), name="receive")
        try:
            self._greet()
            self.configure()
            await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._close(sending, receiving)

    def _greet(self) -> None:
        session = self.settings.to_wire()
        if self._line:
            self._line.call = self
            session["conch"] = {**CAPABILITIES, "resume": self._line.offer()}
        self.send([wire.session_created(session)])

    async def _close(self, *tasks: asyncio.Task[None]) -> None:
        """Stop everything before waiting for any of it: what still runs could start more."""
        self._driver.stop()
        self._listener.stop()
        self.ear.forget()
        self._tasks.cancel(*tasks)
        if self.reply:
            await self.reply.abandon()
        await self.ear.close()
        await self._tasks.ended(*tasks)
        await self._upkeep.close()
        await self._mind.close()
        self._log.close()

    def send(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self._outbox.put(event)

    # --- the connection breaks, and is there again ----------------------------------------

    def dropped(self) -> None:
        """Nothing is heard on either side: no time passes."""
        self._arrival.dropped()
        if self.reply:
            self.reply.unseen()

    def resumed(self, missed: list[str]) -> int:
        """The client is sent these events again; answers the milliseconds of audio taken in."""
        if self.reply:
            self.reply.plays_again(audio_in(missed, self.reply.item_id))
        self._arrival.resumed()
        return self._arrival.milliseconds

    # --- a client event comes in ----------------------------------------------------------

    async def _receive(self) -> None:
        while (raw := await self._transport.receive()) is not None:
            event_id = ""
            try:
                event = wire.decode(raw, self.config.server.max_frame_bytes)
                event_id = event.event_id or ""
                await requests.handle(self, event)
            except WireError as error:
                self.send([wire.error(error)])
            except Exception as error:  # noqa: BLE001  # one event's fault must not end the call
                self.report(error, event_id)

    def configure(self) -> None:
        """Take the session's settings over, as they are now."""
        detection = self.settings.turn_detection
        policy = turn_policy(self.config.turns, detection)
        self.ear.language, self.ear.semantic = self.settings.language, bool(policy.profile)
        if detection is None and self.turns.turn is not None:
            self.turn(floor.CommitRequested())
        self.turn(floor.Configured(policy))
        self.prefill("")

    # --- the model reads along ------------------------------------------------------------

    def prefill(self, text: str) -> None:
        """Let the model read the conversation and the turn so far, while it has nothing to do."""
        if self.reply is None:
            self._mind.read(text)

    def _so_far(self, text: str) -> Prompt:
        return self.memory.prompt(self.settings.response(), text)

    # --- who has the floor ----------------------------------------------------------------

    def _carry_out(self, command: floor.Command) -> None:  # noqa: C901, PLR0912  # a table
        match command:
            case floor.BeginTurn():
                self.ear.begin(over_reply=self.reply is not None)
                self.caller.open()
            case floor.AnnounceSpeech():
                self.caller.started(self.ear.speech_from_ms)
            case floor.ScoreEndpoint(pause):
                self._tasks.spawn(self._listener.score(pause))
            case floor.Transcribe(pause):
                self._tasks.spawn(self._listener.transcribe(pause))
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
                self.ear.silenced(self._arrival.since(self.clock.time()))
                self.memory.keep_heard(self._current_reply)
                self.reply = None
            case floor.Refuse(code):
                raise requests.refusal(code)

    # --- the caller's turn is over --------------------------------------------------------

    def _commit_turn(self, text: str) -> None:
        self._listener.committed()
        self.caller.stopped(self.ear.speech_to_ms)
        self.caller.settle(self.caller.commit(self.ear.turn_seconds), text)
        self.ear.settle(caller=True)
        self.ear.forget()
        self.ear.cut()
        if self.settings.turn_detection is None:
            # It was switched off in mid-speech: what came during recognition is not lost.
            self.ear.begin(at=self.ear.finished_to)
            self.caller.open()

    def _settled(self) -> None:
        """It is quiet when nothing is to be understood or answered: at most a reply plays out."""
        replying = self.reply is not None and not self.reply.made
        busy = replying or self.turns.turn or self.ear.speaking or self._transcriptions
        self._upkeep.heed(quiet=not busy)

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

    def take_in(self, item: Item, event_id: str) -> None:
        """Recognise a new item's recordings; read its pictures to a model that cannot see them."""
        if item.recordings or (item.pictures and not self._engines.sees):
            self._before_replies(self._take_in(item, event_id))

    async def _take_in(self, item: Item, event_id: str) -> None:
        await listen(item, self._engines, self.settings, self.send, self.report)
        if not self._engines.sees:
            await look(item, self._engines, self.send, event_id)

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
        self._mind.attend()
        self.reply.start()
        if not speculative:
            self._publish()

    def _publish(self) -> None:
        reply = self._current_reply
        reply.timing.spoken, self._listener.unanswered = self._listener.unanswered, Spoken()
        reply.publish()

    async def _generate(
        self, settings: ResponseSettings, prompt: Prompt | None
    ) -> AsyncGenerator[ReplyPart, None]:
        """The model's answer to `prompt`, or to the conversation as it is when that is complete."""
        if self._transcriptions:
            await asyncio.wait(self._transcriptions)
        sampling = Sampling(settings.temperature, settings.max_tokens)
        answer = self._mind.answer(lambda: prompt or self.memory.prompt(settings), sampling)
        async with aclosing(answer) as parts:
            async for part in parts:
                yield part

    @property
    def _current_reply(self) -> Reply:
        if self.reply is None:
            raise RuntimeError(f"no reply under way in state {self.turns.state}")
        return self.reply

    # --- what a reply tells its session ---------------------------------------------------

    def plays(self, pcm: Pcm, rate: int, when: float) -> None:
        self.ear.plays(pcm, rate, self._arrival.since(when))

    def tool_called(self, reply: Reply, call: ToolCall) -> None:
        if not reply.timing.first_sent:  # the caller still waits for the first sound
            self._listener.unanswered = reply.timing.spoken
        if reply.playback and reply.remembered:
            self.turn(floor.ToolCalled(call.id))

    def reply_ready(self, reply: Reply) -> None:
        self.turn(floor.ReplyReady(reply.number))

    def reply_made(self) -> None:
        self._settled()

    def reply_delivered(self, reply: Reply) -> None:
        self.turn(floor.ReplyDelivered(reply.number, reply.text))

    def reply_finished(self, reply: Reply) -> None:
        if self.reply is reply:
            self.reply = None
        self.turn(floor.ReplyFinished(reply.number))
        if self.turns.turn is None:
            # What was told again to the turn it answered is no longer there, or of the reply less
            # was heard: what comes behind that is read now, not when the next turn is over.
            self.prefill("")

    def reply_failed(self, error: Exception) -> str:
        self.report(error)
        return phrase("engine_failed", self._language)

    def timing(self, reply: Reply) -> dict[str, Any] | None:
        """What response.done tells a client that asked for conch's extensions."""
        return {"timing_ms": reply.timing.milliseconds()} if EXTENSION in self.extensions else None

    # --- housekeeping ---------------------------------------------------------------------

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
