"""Who has the floor: the turn manager, without I/O, clock or threads.

Events come in with the time at which they are true, commands go out, and `timer()` says when
`fire()` is next due (the shape of h11 and aioquic). Everything that decides about turns is in
this file. Theory of operation:

    IDLE ──speech──▶ CALLER ──pause──▶ PAUSED ──deadline──▶ (WAITING for words) ──▶ REPLY ──▶ IDLE
                       ▲────────speech────┘                                         │  ▲
                       │                                                     speech ▼  │ nothing
                       └──────────────── interruption ◀── JUDGING ◀──pause── HELD ─────┘

A pause asks two slow questions (is the turn complete? what was said?). Their answers carry the
number of the pause, so an answer to an older pause matches nothing. A likely end starts the
reply before the deadline; it stays unpublished until the turn is committed, and is dropped
without a trace when the caller goes on. Speech during a reply holds the delivery (HELD) until
it has lasted or has words (interruption), or is nothing (the reply resumes). Where the client
forbids interruption the caller's turn is collected beside the reply (OVERLAP).
"""

from __future__ import annotations

import enum
from dataclasses import replace

from assistant.backchannel import is_backchannel
from assistant.floor import (
    AnnounceSpeech,
    Apologise,
    BeginTurn,
    CancelReply,
    CancelRequested,
    ClearRequested,
    Command,
    CommitRequested,
    CommitTurn,
    Configured,
    DiscardTurn,
    DropReply,
    EndpointScored,
    Event,
    Heard,
    HoldReply,
    Phase,
    Policy,
    Prefill,
    PublishReply,
    RecognitionFailed,
    Refuse,
    Reply,
    ReplyDelivered,
    ReplyFinished,
    ReplyRequested,
    ResumeReply,
    ScoreEndpoint,
    SpeechPaused,
    SpeechStarted,
    StartReply,
    Transcribe,
    Transcribed,
    Turn,
)


class State(enum.Enum):
    IDLE = "idle"
    CALLER = "caller"
    PAUSED = "paused"
    WAITING = "waiting"
    REPLY = "reply"
    HELD = "held"
    JUDGING = "judging"
    OVERLAP = "overlap"


class TurnManager:
    """One call's floor. `receive` and `fire` return the commands to carry out, in order."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.state = State.IDLE
        self.reply: Reply | None = None
        self.turn: Turn | None = None
        self._deadline: float | None = None
        self._turns = self._replies = self._pauses = 0
        self._requested: str | None = None

    def timer(self) -> float | None:
        return self._deadline

    @property
    def response_active(self) -> bool:
        """Whether the client sees a response under way."""
        return self.reply is not None and self.reply.phase is Phase.LIVE

    def fire(self, now: float) -> list[Command]:
        """The deadline has passed."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        match self.state:
            case State.PAUSED if self._turn.text is None:
                return self._enter(State.WAITING, now + self.policy.recognition_timeout)
            case State.PAUSED:
                return self._commit()
            case State.WAITING:
                return self._not_understood()
            case State.HELD:
                return self._interrupt()
            case State.JUDGING:
                # The words are late: let the reply go on, and decide when they come.
                return [*self._for_reply(ResumeReply), *self._enter(State.JUDGING)]
        return []

    def receive(self, event: Event, now: float) -> list[Command]:  # a table
        match self.state, event:
            # The caller speaks, pauses, goes on.
            case State.IDLE, SpeechStarted():
                return [*self._begin(), *self._announce(), *self._enter(State.CALLER)]
            case State.CALLER, SpeechPaused():
                return self._pause(event, now)
            case ((State.PAUSED | State.WAITING), SpeechStarted()):
                return self._go_on()
            case State.CALLER, Heard(text, likely):
                return [Prefill(likely or text)] if self.reply is None and (likely or text) else []

            # What the pause was: answers carry its number, older ones match nothing.
            case State.PAUSED, EndpointScored(pause, probability) if pause == self._pauses:
                self._judge_end(probability)
                return self._speculate()
            case ((State.PAUSED | State.OVERLAP), Transcribed(pause, text)) if (
                pause == self._pauses
            ):
                self._turn.text = text
                return self._speculate() if self.state is State.PAUSED else []
            case State.WAITING, Transcribed(pause, text) if pause == self._pauses:
                self._turn.text = text
                return self._commit()
            case ((State.PAUSED | State.WAITING), RecognitionFailed(pause)) if (
                pause == self._pauses
            ):
                return self._not_understood()

            # Speech over a reply: a candidate first.
            case State.REPLY, SpeechStarted(speech) if self.policy.interrupt_response:
                return [*self._begin(), *self._hold(now, speech)]
            case State.REPLY, SpeechStarted():
                return [*self._begin(), *self._announce(), *self._enter(State.OVERLAP)]
            case State.HELD, SpeechPaused():
                return self._judge(event, now)
            case State.JUDGING, SpeechStarted(speech):
                self._pauses += 1
                return self._hold(now, speech)
            case State.HELD, Heard(text) if not is_backchannel(text):
                return self._interrupt()
            case State.JUDGING, Transcribed(pause, text) if pause == self._pauses:
                return self._verdict(text)
            case State.JUDGING, RecognitionFailed(pause) if pause == self._pauses:
                return self._resume("not recognised")
            case State.OVERLAP, SpeechPaused(silence):
                self._turn.silent_since = now - silence
                self._turn.speech += event.speech
                self._pauses += 1
                return [Transcribe(self._pauses)]
            case State.OVERLAP, SpeechStarted():
                self._turn.silent_since = self._turn.text = None
                self._pauses += 1
                return []

            # The reply's own life. A stale number matches nothing.
            case _, ReplyDelivered(number) if self._is_live(number):
                self.reply = Reply(number, Phase.DELIVERED)
                return []
            case _, ReplyFinished(number) if self.reply and self.reply.number == number:
                return self._reply_over(now)

            # What the client asks for.
            case _, ReplyRequested(request):
                return self._request(request)
            case _, CancelRequested():
                return self._cancel(now)
            case ((State.CALLER | State.PAUSED | State.HELD | State.JUDGING), CommitRequested()):
                return self._end_turn(now)
            case _, ClearRequested():
                return self._clear()
            case _, Configured(policy):
                self.policy = policy
                return []
        return []

    # --- the caller's turn ----------------------------------------------------------------

    @property
    def _turn(self) -> Turn:
        if self.turn is None:
            raise RuntimeError(f"no turn under way in state {self.state}")
        return self.turn

    def _enter(self, state: State, deadline: float | None = None) -> list[Command]:
        self.state = state
        self._deadline = deadline
        return []

    def _begin(self) -> list[Command]:
        self._turns += 1
        self.turn = Turn(self._turns)
        return [BeginTurn(self._turns)]

    def _announce(self) -> list[Command]:
        if self._turn.announced:
            return []
        self._turn.announced = True
        return [AnnounceSpeech(self._turn.number)]

    def _pause(self, event: SpeechPaused, now: float) -> list[Command]:
        turn = self._turn
        turn.silent_since = now - event.silence
        turn.speech += event.speech
        turn.text = None
        self._pauses += 1
        return self._await_end()

    def _await_end(self) -> list[Command]:
        """Enter PAUSED with the deadline that holds until the endpointer has answered."""
        semantic = self.policy.semantic
        self._turn.likely_over = not semantic
        delay = self.policy.incomplete if semantic else self.policy.complete
        self._enter(State.PAUSED, self._silent_since + delay)
        asked: list[Command] = [Transcribe(self._pauses)] if self._turn.text is None else []
        return [*asked, ScoreEndpoint(self._pauses)] if semantic else asked

    @property
    def _silent_since(self) -> float:
        if self._turn.silent_since is None:
            raise RuntimeError(f"the caller is speaking in state {self.state}")
        return self._turn.silent_since

    def _judge_end(self, probability: float) -> None:
        self._turn.likely_over = probability >= self.policy.complete_probability
        delay = self.policy.complete if self._turn.likely_over else self.policy.incomplete
        self._deadline = self._silent_since + delay

    def _speculate(self) -> list[Command]:
        wanted = self.policy.speculate and self.policy.create_response and self._requested is None
        if not (wanted and self._turn.likely_over and self._turn.text and self.reply is None):
            return []
        return [self._start(Phase.SPECULATIVE)]

    def _go_on(self) -> list[Command]:
        """The caller speaks again: the same turn is reopened, a speculative reply forgotten."""
        self._turn.silent_since = self._turn.text = None
        self._pauses += 1
        return [*self._drop(), *self._enter(State.CALLER)]

    def _commit(self) -> list[Command]:
        turn = self._turn
        if not turn.text:
            if turn.speech >= self.policy.lost_speech:
                return self._not_understood()
            return self._discard("no words")
        commands: list[Command] = [CommitTurn(turn.number, turn.text)]
        self.turn = None
        if self.reply is not None:
            self.reply = replace(self.reply, phase=Phase.LIVE)
            commands.append(PublishReply(self.reply.number))
        elif self.policy.create_response or self._requested is not None:
            commands.append(self._start(Phase.LIVE))
        self._enter(State.REPLY if self.reply else State.IDLE)
        return commands

    def _not_understood(self) -> list[Command]:
        """Speech without words: never silently, the caller is told."""
        commands: list[Command] = [*self._drop(), CommitTurn(self._turn.number, "")]
        self.turn = None
        if not self.policy.create_response:
            return [*commands, *self._answer_request()]
        started = self._start(Phase.LIVE)
        self._enter(State.REPLY)
        return [*commands, Apologise(started.reply, started.request)]

    def _discard(self, reason: str) -> list[Command]:
        turn = self._turn
        commands = [*self._drop(), DiscardTurn(turn.number, reason, turn.announced)]
        self.turn = None
        return [*commands, *self._answer_request()]

    def _answer_request(self) -> list[Command]:
        """The caller's turn is gone; a response.create that waited for it is due now."""
        if self._requested is None or self.reply is not None:
            return self._enter(State.REPLY if self.reply else State.IDLE)
        command = self._start(Phase.LIVE)
        return [command, *self._enter(State.REPLY)]

    # --- the reply ------------------------------------------------------------------------

    def _start(self, phase: Phase) -> StartReply:
        self._replies += 1
        self.reply = Reply(self._replies, phase)
        request, self._requested = self._requested or "", None
        return StartReply(self._replies, phase is Phase.SPECULATIVE, request)

    def _drop(self) -> list[Command]:
        if self.reply is None or self.reply.phase is not Phase.SPECULATIVE:
            return []
        number, self.reply = self.reply.number, None
        return [DropReply(number)]

    def _is_live(self, number: int) -> bool:
        return self.reply == Reply(number, Phase.LIVE)

    def _reply_over(self, now: float) -> list[Command]:
        self.reply = None
        match self.state:
            case State.REPLY:
                return self._answer_request()
            case State.OVERLAP if self._turn.silent_since is None:
                return self._enter(State.CALLER)
            case State.OVERLAP:
                commands = self._await_end()
                self._deadline = max(self._deadline or now, now)
                return commands
        return []

    def _hold(self, now: float, speech: float) -> list[Command]:
        self._enter(State.HELD, now + max(0.0, self.policy.barge_in - speech))
        return self._for_reply(HoldReply)

    def _for_reply(self, command: type[HoldReply | ResumeReply]) -> list[Command]:
        return [command(self.reply.number)] if self.reply else []

    def _judge(self, event: SpeechPaused, now: float) -> list[Command]:
        self._turn.silent_since = now - event.silence
        self._turn.speech += event.speech
        self._pauses += 1
        self._enter(State.JUDGING, now + self.policy.hold)
        return [Transcribe(self._pauses)]

    def _verdict(self, text: str) -> list[Command]:
        if not text:
            return self._resume("no words")
        if is_backchannel(text):
            return self._resume(f"backchannel: {text}")
        self._turn.text = text
        return [*self._take_floor("turn_detected"), *self._await_end()]

    def _resume(self, reason: str) -> list[Command]:
        return [*self._for_reply(ResumeReply), *self._discard(reason)]

    def _interrupt(self) -> list[Command]:
        return [*self._take_floor("turn_detected"), *self._enter(State.CALLER)]

    def _take_floor(self, reason: str) -> list[Command]:
        return [*self._announce(), *self._stop(reason)]

    def _stop(self, reason: str) -> list[Command]:
        """Cancel the published reply, if there is one."""
        if self.reply is None:
            return []
        number, self.reply = self.reply.number, None
        return [CancelReply(number, reason)]

    # --- the client's requests ------------------------------------------------------------

    def _request(self, request: str) -> list[Command]:
        if self.response_active or self._requested is not None:
            return [Refuse("conversation_already_has_active_response")]
        self._requested = request
        if self.state is State.IDLE:
            return self._answer_request()
        return self._drop()

    def _cancel(self, now: float) -> list[Command]:
        if not self.response_active:
            return [Refuse("response_cancel_not_active")]
        commands = self._stop("client_cancelled")
        match self.state:
            case State.REPLY:
                self._enter(State.IDLE)
            case State.HELD:
                commands += [*self._announce(), *self._enter(State.CALLER)]
            case State.OVERLAP:
                commands += self._reply_over(now)
        return commands

    def _end_turn(self, now: float) -> list[Command]:
        commands = self._take_floor("turn_detected") if self.state in _CANDIDATE else []
        if self.state is State.PAUSED and self._turn.text is not None:
            return self._commit()
        if self.state is not State.PAUSED:
            self._pauses += 1
            commands.append(Transcribe(self._pauses))
        return [*commands, *self._enter(State.WAITING, now + self.policy.recognition_timeout)]

    def _clear(self) -> list[Command]:
        if self.turn is None:
            return []
        resume = self._for_reply(ResumeReply) if self.state in _CANDIDATE else []
        return [*resume, *self._discard("cleared by the client")]


_CANDIDATE = (State.HELD, State.JUDGING)
