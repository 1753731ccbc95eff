"""The assistant's side of one turn: tokens, clauses, speech, paced delivery (step 5).

Two tasks and a timer hand work on, each waiting when the next is far enough ahead:

    _generate: language model -> clauses    _speak: clauses -> audio    _pump: audio -> client

A reply may run before it is published. It then prepares its first clause's audio and stops
there, unseen: publishing it only starts the pump, dropping it leaves no trace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from assistant.clauses import ClauseCutter
from assistant.clock import Alarm, CallClock
from assistant.heard import HeardLedger
from assistant.listening import Spoken
from assistant.memory import Memory
from assistant.playback import Playback
from assistant.voice import Mouth
from assistant.wire.realtime import new_id
from assistant.wire.response import ResponseStream
from llm.interfaces import Finished, LanguageModelError, ReplyPart, TextDelta, ToolCall
from speech.interfaces import Pcm, Speech, SpeechError

_CLAUSES_AHEAD = 3
"""Clauses written but not yet spoken; the language model waits beyond that."""
_CHUNK = 0.04
"""Seconds of audio in one event."""
_SECONDS_AHEAD = 10.0
"""Audio spoken but not yet delivered; the synthesiser waits beyond that."""


class ReplyOwner(Protocol):
    """What a reply needs of its session."""

    memory: Memory
    clock: CallClock

    def send(self, events: list[dict[str, Any]]) -> None: ...

    def reply_failed(self, error: Exception) -> str:
        """Log and report the error; answers the sentence that says so to the caller."""

    def timing(self, reply: Reply) -> dict[str, Any] | None:
        """What response.done says under `conch`, where the client asked for it."""

    def tool_called(self, reply: Reply, call: ToolCall) -> None:
        """The client has been asked to run a tool for it."""

    def plays(self, pcm: Pcm, rate: int, when: float) -> None:
        """Samples go out now, of shape (n,) at `rate` Hz, to be heard at loop time `when`."""

    def reply_ready(self, reply: Reply) -> None:
        """Its first sound, or all that it says without one, can be sent."""

    def reply_made(self) -> None:
        """All of the reply is generated and spoken; what is left is to deliver it."""

    def reply_delivered(self, reply: Reply) -> None:
        """Everything is sent; the client has seen response.done."""

    def reply_finished(self, reply: Reply) -> None:
        """The last sample has been heard."""


@dataclass
class Timing:
    """When things happened, in loop seconds; 0 until they do."""

    spoken: Spoken = field(default_factory=Spoken)
    """What the reply answers."""
    started: float = 0.0
    first_token: float = 0.0
    first_clause: float = 0.0
    first_audio: float = 0.0
    published: float = 0.0
    first_sent: float = 0.0

    def milliseconds(self) -> dict[str, int]:
        """The parts of voice-to-voice latency. Speculation makes them overlap."""
        spans = {
            "endpointing": (self.spoken.end, self.published),
            "first_token": (self.started, self.first_token),
            "first_clause": (self.first_token, self.first_clause),
            "tts": (self.first_clause, self.first_audio),
            "delivery": (self.published, self.first_sent),
            "total": (self.spoken.end, self.first_sent),
        }
        parts = {name: round(1000 * (b - a)) for name, (a, b) in spans.items() if a and b}
        if self.spoken.end:
            parts["asr"] = round(1000 * self.spoken.recognition)
        return parts


class Reply:
    """One response, from its first token to its last audible sample."""

    def __init__(
        self,
        number: int,
        stream: ResponseStream,
        source: AsyncGenerator[ReplyPart, None],
        mouth: Mouth | None,
        owner: ReplyOwner,
        lead: float,
    ) -> None:
        """`mouth` speaks the reply; None: it is text only. `lead` is in seconds."""
        self.number = number
        self.response_id = stream.id
        self.item_id = new_id("item")
        self.text = ""
        """What the client was sent of it so far."""
        self.timing = Timing()
        self.ledger = HeardLedger()
        self.playback = Playback(mouth.rate, lead=lead, chunk=_CHUNK) if mouth else None
        self.done = False
        """response.done went out."""
        self.made = False
        """All of it is generated and spoken."""
        self.remembered = True
        """Whether the conversation keeps it."""
        self._stream, self._source, self._mouth, self._owner = stream, source, mouth, owner
        self._ahead = _SECONDS_AHEAD * mouth.rate if mouth else 0
        self._clock = owner.clock
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue(_CLAUSES_AHEAD)
        self._captions: deque[tuple[int, str]] = deque()
        """(first sample, clause) of what is spoken but not yet delivered."""
        self._calls: list[ToolCall] = []
        self._usage = Finished("stop")
        self._error: Exception | None = None
        self._published = asyncio.Event()
        self._is_ready = False
        self._space = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: Alarm | None = None

    # --- what the session does with it ----------------------------------------------------

    def start(self) -> None:
        self.timing.started = self._clock.time()
        self._task = asyncio.create_task(self._run(), name=f"reply {self.number}")

    def publish(self) -> None:
        """The turn is committed: from here on the client sees the response."""
        self.timing.published = self._clock.time()
        self._owner.send(self._stream.created())
        self._published.set()
        self._pump()

    def hold(self) -> None:
        if self.playback:
            self.playback.hold(self._clock.time())

    def resume(self) -> None:
        if self.playback:
            self.playback.resume(self._clock.time())
            self._pump()

    def cancel(self, reason: str) -> None:
        """Stop at once; the client is told unless the response is done or was never seen."""
        self._stop()
        if self._published.is_set() and not self.done:
            self._end("cancelled", reason)

    async def abandon(self) -> None:
        """The client is gone: stop without a word, and return when the engines are free."""
        self._stop()
        if self._task:
            await asyncio.wait([self._task])

    def heard_samples(self) -> int:
        return self.playback.heard(self._clock.time()) if self.playback else 0

    def played(self, samples: int) -> None:
        """The client reports what it has played; that is better than the clock."""
        if self.playback:
            self.playback.acked(samples, self._clock.time())
            self._pump()

    def unseen(self) -> None:
        """The connection is gone: what the client has not confirmed was not heard."""
        if self.playback:
            self.playback.unseen(self._clock.time())

    def plays_again(self, data: bytes) -> None:
        """The client is sent the end of what it was sent again, and begins to play it."""
        if self.playback is None or self._mouth is None:
            return
        pcm, now = self._mouth.decode(data), self._clock.time()
        self.playback.repeated(len(pcm), now)
        if len(pcm):
            self._owner.plays(pcm, self.playback.rate, now)
        if self.done:
            self._await_the_last_sample()
        else:
            self._pump()

    def heard_text(self, samples: int | None = None) -> str | None:
        """The words heard of it by now, or once `samples` were; None when that is all of them."""
        if self.playback is None:
            return None
        heard = self.heard_samples() if samples is None else min(samples, self.playback.sent)
        whole = self.done and heard >= self.ledger.samples
        return None if whole else self.ledger.text(heard)

    # --- tokens to clauses ----------------------------------------------------------------

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._generate())
            if self._mouth and self.playback:
                group.create_task(self._speak(self._mouth, self.playback))
            else:
                group.create_task(self._write())
        self.made = True
        self._owner.reply_made()

    async def _generate(self) -> None:
        cutter = ClauseCutter()
        cut = cutter.push if self._mouth else lambda text: [text]
        try:
            async with aclosing(self._source) as parts:
                async for part in parts:
                    match part:
                        case TextDelta(text):
                            self.timing.first_token = self.timing.first_token or self._clock.time()
                            for clause in cut(text):
                                await self._hand_on(clause)
                        case ToolCall():
                            self._calls.append(part)
                        case Finished():
                            self._usage = part
        except LanguageModelError as error:
            self._error = error
            await self._hand_on(" " + self._owner.reply_failed(error))
        for clause in cutter.flush():
            await self._hand_on(clause)
        await self._clauses.put(None)

    async def _hand_on(self, clause: str) -> None:
        self.timing.first_clause = self.timing.first_clause or self._clock.time()
        await self._clauses.put(clause)

    # --- clauses to audio, or to text -----------------------------------------------------

    async def _speak(self, mouth: Mouth, playback: Playback) -> None:
        while (clause := await self._clauses.get()) is not None:
            self._captions.append((self.ledger.samples, clause))
            try:
                async with aclosing(mouth.say(clause)) as steps:
                    async for text, speech in steps:
                        self._say(playback, text, speech)
            except SpeechError as error:
                # The text still reaches the captions; the next clause may be speakable.
                if self._error is None:
                    self._owner.reply_failed(error)
                self._error = error
                continue
            await self._published.wait()
            await self._wait_for_space(playback)
        self._get_ready()
        await self._published.wait()
        playback.finish()
        self._pump()

    def _say(self, playback: Playback, text: str, speech: Speech) -> None:
        self.timing.first_audio = self.timing.first_audio or self._clock.time()
        self.ledger.say(text, len(speech.pcm), speech.marks)
        playback.add(speech.pcm)
        self._get_ready()
        self._pump()

    def _get_ready(self) -> None:
        """Say once that publishing it would be heard."""
        if not self._is_ready:
            self._is_ready = True
            self._owner.reply_ready(self)

    async def _wait_for_space(self, playback: Playback) -> None:
        while self.ledger.samples - playback.sent > self._ahead:
            self._space.clear()
            await self._space.wait()

    async def _write(self) -> None:
        self._get_ready()
        await self._published.wait()
        while (text := await self._clauses.get()) is not None:
            self._begin_message()
            self.text += text
            self._owner.send([self._stream.text(text)])
        self._complete()

    # --- audio to the client --------------------------------------------------------------

    def _pump(self) -> None:
        """Send what is due, and come back when more is."""
        playback = self.playback
        if playback is None or not self._published.is_set() or self.done:
            return
        if self._timer:
            self._timer.cancel()
            self._timer = None
        pcm = playback.due(self._clock.time())
        if len(pcm) and self._mouth:
            self._owner.plays(pcm, playback.rate, playback.time_of(playback.sent - len(pcm)))
            self._begin_message()
            self._caption(playback.sent)
            self._owner.send([self._stream.audio(self._mouth.encode(pcm))])
            self._space.set()
        if playback.all_sent:
            self._caption(playback.sent + 1)
            self._complete()
            return
        when = playback.timer()
        if when is not None:
            self._timer = self._clock.call_at(when, self._pump)

    def _caption(self, end: int) -> None:
        """The words of the clauses that begin before sample `end`; they go out before it."""
        while self._captions and self._captions[0][0] < end:
            clause = self._captions.popleft()[1]
            self._begin_message()
            self.text += clause
            self._owner.send([self._stream.transcript(clause)])

    def _begin_message(self) -> None:
        if self.timing.first_sent:
            return
        self.timing.first_sent = self._clock.time()
        previous = self._owner.memory.message_begins(self)
        self._owner.send(self._stream.start_message(self.item_id, previous))

    # --- the end --------------------------------------------------------------------------

    def _complete(self) -> None:
        if self._error is not None:
            self._end("failed", "")
        elif self._usage.reason == "length":
            self._end("incomplete", "max_output_tokens")
        else:
            self._end("completed", "")
        self._owner.reply_delivered(self)
        self._await_the_last_sample()

    def _await_the_last_sample(self) -> None:
        if self._timer:
            self._timer.cancel()
        drained = self.playback.drained_at() if self.playback else None
        self._timer = self._clock.call_at(
            self._clock.time() if drained is None else drained, self._owner.reply_finished, self
        )

    def _end(self, status: str, reason: str) -> None:
        self.done = True
        events: list[dict[str, Any]] = []
        if self.timing.first_sent:
            item_status = "completed" if status == "completed" else "incomplete"
            self._owner.memory.message_ends(self, item_status)
            events += self._stream.finish_message(self.text, item_status)
        for call in self._calls if status in ("completed", "incomplete") else ():
            item_id = new_id("item")
            previous = self._owner.memory.tool_called(self, item_id, call)
            events += self._stream.function_call(item_id, call, previous)
            self._owner.tool_called(self, call)
        error = None
        if self._error is not None:
            code = "engine_failed"
            error = {"type": "server_error", "code": code, "message": str(self._error)}
        done = self._stream.done(status, reason, error, self._usage)
        if timing := self._owner.timing(self):
            done["conch"] = timing
        self._owner.send([*events, done])

    def _stop(self) -> None:
        if self._task:
            self._task.cancel()
        if self._timer:
            self._timer.cancel()
            self._timer = None
