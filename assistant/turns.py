"""Who has the floor: the turn manager, without I/O, clock or threads.

Events come in with the time at which they are true, commands go out, and `timer()` says when
`fire()` is next due (the shape of h11 and aioquic). Everything that decides about turns is in
this file and in the two pure functions that it asks: endpointing.silence_needed (is the turn
over?) and interruption.judge (what is this speech over the reply?). Theory of operation:

    IDLE ──speech──▶ CALLER ──pause──▶ PAUSED ──deadline──▶ DUE or WAITING ──▶ REPLY ──▶ IDLE
                       ▲────────speech────┴───────────────────┘               │  ▲
                       │                                               speech ▼  │ let go
                       └── interruption ◀── BESIDE ◀──still open, resumed── HELD ┘

A pause asks slow questions (how does the end sound? what was said?). Their answers carry the
number of the pause, so an answer to an older pause matches nothing. A likely end, even one that
is only guessed while the caller still speaks, starts the reply before the deadline; it stays
unpublished until the turn is committed with the very words that it answers, and is dropped
without a trace when the caller goes on. A turn that is over is DUE until its reply can be heard:
that long it costs nothing to let the caller go on. One whose words are late is WAITING for them.
Speech during a reply holds the delivery (HELD). What is still open when the hold has lasted long
enough is watched while the reply goes on, and after it has ended (BESIDE): babble that outlasts a
reply is no more a turn than babble that does not. Where the client forbids interruption the
caller's turn is collected beside the reply (OVERLAP).
"""

from __future__ import annotations

import enum

from assistant import floor
from assistant.evidence import Habits, Turn, most_silence
from assistant.interruption import (
    Candidate,
    Verdict,
    is_faint,
    is_murmur,
    is_weak,
    judge,
    thinks_aloud,
)
from assistant.replies import Replies

_SURE = 0.4
"""Seconds of silence needed beyond which the language model is asked what it makes of the words."""


class State(enum.Enum):
    IDLE = "idle"
    CALLER = "caller"
    PAUSED = "paused"
    DUE = "due"
    WAITING = "waiting"
    REPLY = "reply"
    HELD = "held"
    BESIDE = "beside"
    OVERLAP = "overlap"


class TurnManager:
    """One call's floor. `receive` and `fire` return the commands to carry out, in order."""

    def __init__(self, policy: floor.Policy | None = None) -> None:
        self.policy = policy or floor.Policy()
        self.state = State.IDLE
        self.turn: Turn | None = None
        self.replies = Replies()
        self._deadline: float | None = None
        self._turns = self._pauses = 0
        self._idle_asks = self.policy.idle_asks
        """Questions into the silence since the caller last spoke; none before they ever did."""
        self._habits = Habits()

    def timer(self) -> float | None:
        return self._deadline

    def fire(self, now: float) -> list[floor.Command]:
        """The deadline has passed."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        match self.state:
            case State.IDLE if self._must_explain:
                return self._explain_the_wait(now)
            case State.IDLE:
                return self._ask_into_silence(now)
            case State.PAUSED if self._turn.text is None:
                return self._enter(State.WAITING, now + self.policy.recognition_timeout)
            case State.PAUSED:
                return self._over(now)
            case State.DUE:
                return self._commit(now)
            case State.WAITING:
                return self._not_understood(now)
            case State.HELD:
                return self._overdue(now)
        return []

    def receive(self, event: floor.Event, now: float) -> list[floor.Command]:  # a table
        match self.state, event:
            # The caller speaks, pauses, goes on.
            case State.IDLE, floor.SpeechStarted():
                return [*self._begin(event, now), *self._listen()]
            case State.CALLER, floor.SpeechPaused():
                self._pause(event, now)
                return self._await_end(now)
            case ((State.PAUSED | State.DUE | State.WAITING), floor.SpeechStarted()):
                return self._go_on(event, now)
            case ((State.PAUSED | State.DUE), floor.SpeechSuspected()):
                self._turn.doubtful_until = now + self.policy.doubt
                return []
            case State.CALLER, floor.Heard():
                return self._follow(event, now)

            # What the pause was: answers carry its number, older ones match nothing.
            case State.PAUSED, floor.EndpointScored(pause) if pause == self._pauses:
                self._turn.scored(event)
                return self._judge_end(now)
            case State.PAUSED, floor.Transcribed(pause) if pause == self._pauses:
                self._turn.transcribed(event)
                return self._judge_end(now)
            case ((State.CALLER | State.PAUSED), floor.Rated()):
                self._turn.rated, self._habits.rated = event, True
                return self._judge_end(now) if self.state is State.PAUSED else self._guess(now)
            case State.WAITING, floor.Transcribed(pause) if pause == self._pauses:
                self._turn.transcribed(event)
                return self._commit(now)
            case ((State.PAUSED | State.WAITING), floor.RecognitionFailed(pause)) if (
                pause == self._pauses
            ):
                return self._not_understood(now)

            # Speech over a reply: a candidate first.
            case State.REPLY, floor.SpeechStarted() if self.policy.interrupt_response:
                return [*self._begin(event, now), *self._hold(event, now)]
            case State.REPLY, floor.SpeechStarted():
                commands = [*self._begin(event, now), *self._announce()]
                return [*commands, *self._enter(State.OVERLAP)]
            case ((State.HELD | State.BESIDE), floor.Heard()):
                self._turn.said(event)
                return self._weigh(now)
            case ((State.HELD | State.BESIDE | State.OVERLAP), floor.SpeechPaused()):
                self._pause(event, now)
                return [floor.Transcribe(self._pauses)]
            case ((State.HELD | State.BESIDE | State.OVERLAP), floor.SpeechStarted()):
                self._restart(event, now)
                return self._hold(event, now) if self.state is State.BESIDE else []
            case ((State.HELD | State.BESIDE | State.OVERLAP), floor.Transcribed(pause)) if (
                pause == self._pauses
            ):
                self._turn.transcribed(event)
                return [] if self.state is State.OVERLAP else self._weigh(now)
            case ((State.HELD | State.BESIDE), floor.RecognitionFailed(pause)) if (
                pause == self._pauses
            ):
                over = self.replies.current is None
                return self._not_understood(now) if over else self._let_go("not recognised", now)

            # The reply's own life. A stale number matches nothing.
            case _, floor.ReplyReady(number) if self.replies.is_current(number):
                self.replies.prepared()
                return self._due(now) if self.state is State.DUE else []
            case _, floor.ReplyDelivered(number, text) if self.replies.deliver(number):
                self._habits.asked = text
                return []
            case _, floor.ReplyFinished(number) if self.replies.is_current(number):
                self.replies.current = None
                return self._reply_over(now)

            # A tool of the client's is at work.
            case _, floor.ToolCalled(call):
                self.replies.call(call)
                return []
            case _, floor.ToolAnswered(call):
                return self._answered(call, now)

            # What the client asks for.
            case _, floor.ReplyRequested(request):
                return self._request(request, now)
            case _, floor.CancelRequested():
                return self._cancel(now)
            case _, floor.CommitRequested() if self.state in _UNDER_WAY:
                return self._end_turn(now)
            case _, floor.ClearRequested():
                return self._clear(now)
            case _, floor.Configured(policy):
                self.policy = policy
                return self._idle(now) if self.state is State.IDLE else []
        return []

    # --- the caller's turn ----------------------------------------------------------------

    @property
    def _turn(self) -> Turn:
        if self.turn is None:
            raise RuntimeError(f"no turn under way in state {self.state}")
        return self.turn

    def _enter(self, state: State, deadline: float | None = None) -> list[floor.Command]:
        self.state = state
        self._deadline = deadline
        return []

    def _begin(self, event: floor.SpeechStarted, now: float) -> list[floor.Command]:
        self._turns += 1
        onset, age = now - event.speech, self.replies.age(now)
        self.turn = Turn(self._turns, onset, age, below=event.below)
        return [floor.BeginTurn(self._turns)]

    def _listen(self) -> list[floor.Command]:
        """The caller has the floor; a voice that is far away is told of when it is a turn."""
        announced = [] if is_faint(self._turn.below) else self._announce()
        return [*announced, *self._enter(State.CALLER)]

    def _announce(self) -> list[floor.Command]:
        if self._turn.announced:
            return []
        self._turn.announced = True
        return [floor.AnnounceSpeech(self._turn.number)]

    def _pause(self, event: floor.SpeechPaused, now: float) -> None:
        self._turn.paused(event, now)
        self._pauses += 1

    def _restart(self, event: floor.SpeechStarted, now: float) -> None:
        self._turn.started(event, now)
        self._pauses += 1

    def _follow(self, event: floor.Heard, now: float) -> list[floor.Command]:
        """Words of a turn that goes on: read ahead, or answer already what may be all of it."""
        words = self._turn.said(event)
        announced = [] if is_faint(event.below) else self._announce()
        commands = [*announced, *self._guess(now)]
        if self.replies.current or self._turn.ends(words) is not None:
            return commands
        return [*commands, floor.Prefill(words)]

    def _guess(self, now: float) -> list[floor.Command]:
        """Prepare a reply to the words of speech that goes on, where they seem to be all."""
        turn = self._turn
        known = not self._habits.rated or turn.ends(turn.words) is not None
        whole = self._habits.may_be_whole(turn, turn.words, now, self.policy)
        return self._speculate(turn.words, likely=known and turn.settled and whole)

    def _go_on(self, event: floor.SpeechStarted, now: float) -> list[floor.Command]:
        """The caller speaks again: the same turn is reopened, a speculative reply forgotten."""
        if self._turn.silent_since is not None:  # None: the client ended the turn in mid-speech
            self._habits.paused(now - event.speech - self._turn.silent_since)
        self._restart(event, now)
        return [*self.replies.drop(), *self._listen()]

    def _await_end(self, now: float, *, asked: bool = False) -> list[floor.Command]:
        """Enter PAUSED, until words come with a deadline that holds without them; `asked`: they
        are on their way already."""
        self._enter(State.PAUSED, self._silent_since + most_silence(self.policy))
        semantic = bool(self.policy.profile)
        score: list[floor.Command] = [floor.ScoreEndpoint(self._pauses)] if semantic else []
        if self._turn.text is not None:
            return [*score, *self._judge_end(now)]
        return score if asked else [floor.Transcribe(self._pauses), *score]

    @property
    def _silent_since(self) -> float:
        if self._turn.silent_since is None:
            raise RuntimeError(f"the caller is speaking in state {self.state}")
        return self._turn.silent_since

    def _judge_end(self, now: float) -> list[floor.Command]:
        turn = self._turn
        if turn.text is None:
            return []
        needed = self._habits.silence_needed(turn, self.policy)
        self._deadline = self._silent_since + needed
        likely = needed <= self.policy.speculate_within
        if turn.completeness is None:
            likely = self._habits.may_be_whole(turn, turn.text, now, self.policy)
        unsure = self._habits.rated and needed > _SURE and turn.ends(turn.text) is None
        commands = self._speculate(turn.text, likely=likely and not unsure)
        ask = unsure and self.replies.current is None
        return [*commands, floor.Prefill(turn.text)] if ask else commands

    def _speculate(self, words: str, *, likely: bool) -> list[floor.Command]:
        """Have a reply to just these words prepared, where they are likely all of the turn."""
        if self.replies.active or self.replies.answers(words):
            return []
        dropped = self.replies.drop()
        allowed = self.policy.create_response and self.replies.requested is None
        if not (allowed and likely and words) or thinks_aloud(words):
            return dropped
        return [*dropped, self.replies.prepare(words)]

    def _over(self, now: float) -> list[floor.Command]:
        """The turn is over, but until its reply can be heard the caller may still go on."""
        if is_murmur(self._turn.nearest, self._turn.confidence):
            return self._without_words(f"a murmur: {self._turn.text}", now)
        commands = self._speculate(self._turn.text or "", likely=True)
        reply = self.replies.current
        if reply is None or reply.ready:
            return [*commands, *self._due(now)]
        return [*commands, *self._enter(State.DUE, now + self.policy.linger)]

    def _due(self, now: float) -> list[floor.Command]:
        """Nothing is left to wait for, unless the caller may just be going on."""
        doubtful_until = self._turn.doubtful_until
        return (
            self._commit(now) if now >= doubtful_until else self._enter(State.DUE, doubtful_until)
        )

    def _commit(self, now: float) -> list[floor.Command]:
        turn = self._turn
        if not turn.text:
            return self._without_words("no words", now)
        keep = self.replies.answers(turn.text) and not thinks_aloud(turn.text)
        commands = [*([] if keep else self.replies.drop()), *self._announce()]
        commands.append(floor.CommitTurn(turn.number, turn.text, self._habits.why_over(turn, now)))
        self.turn, self._idle_asks = None, 0
        self._habits.committed(turn)
        self.replies.calls_are_stale()
        wanted = self.policy.create_response and not thinks_aloud(turn.text)
        if self.replies.current is not None:
            commands += self.replies.publish(now)
        elif wanted or self.replies.requested is not None:
            commands.append(self.replies.start(now))
        answered = self.replies.current is not None
        return [*commands, *(self._enter(State.REPLY) if answered else self._idle(now))]

    def _without_words(self, why: str, now: float) -> list[floor.Command]:
        lasting = self._turn.speech >= self.policy.lost_speech
        return self._not_understood(now) if lasting else self._discard(why, now)

    def _not_understood(self, now: float) -> list[floor.Command]:
        """Speech without words: never silently, the caller is told."""
        commands = [*self.replies.drop(), *self._announce()]
        commands.append(floor.CommitTurn(self._turn.number, ""))
        self.turn = None
        if not self.policy.create_response:
            return [*commands, *self._answer_request(now)]
        started = self.replies.start(now)
        self._enter(State.REPLY)
        return [*commands, floor.Say(started.reply, "not_understood", started.request)]

    def _discard(self, reason: str, now: float) -> list[floor.Command]:
        turn = self._turn
        commands = [*self.replies.drop(), floor.DiscardTurn(turn.number, reason, turn.announced)]
        self.turn = None
        return [*commands, *self._answer_request(now)]

    def _answer_request(self, now: float) -> list[floor.Command]:
        """The caller's turn is gone; a response.create that waited for it is due now."""
        if self.replies.current is not None:
            return self._enter(State.REPLY)
        if self.replies.requested is None:
            return self._idle(now)
        return [self.replies.start(now), *self._enter(State.REPLY)]

    # --- silence --------------------------------------------------------------------------

    def _idle(self, now: float) -> list[floor.Command]:
        if self._must_explain:
            return self._enter(State.IDLE, now + self.policy.tool_wait)
        ask = self.policy.idle and self._idle_asks < self.policy.idle_asks
        return self._enter(State.IDLE, now + self.policy.idle if ask else None)

    def _ask_into_silence(self, now: float) -> list[floor.Command]:
        self._idle_asks += 1
        started = self.replies.start(now)
        return [floor.Say(started.reply, "still_there"), *self._enter(State.REPLY)]

    # --- a tool takes its time ------------------------------------------------------------

    @property
    def _must_explain(self) -> bool:
        wanted = self.policy.tool_wait > 0 and self.policy.create_response
        return wanted and self.replies.wait_is_unexplained

    def _explain_the_wait(self, now: float) -> list[floor.Command]:
        started = self.replies.explain(now)
        return [floor.Say(started.reply, "one_moment"), *self._enter(State.REPLY)]

    def _answered(self, call: str, now: float) -> list[floor.Command]:
        self.replies.answered(call)
        if not self.replies.awaited and self.replies.stopgap:
            return self._end_stopgap(now)
        return self._idle(now) if self.state is State.IDLE else []

    def _end_stopgap(self, now: float) -> list[floor.Command]:
        """There is something better to say than that it takes a moment."""
        if not self.replies.stopgap:
            return []
        return [*self._stop("client_cancelled"), *self._reply_over(now)]

    # --- the reply ------------------------------------------------------------------------

    def _stop(self, reason: str, why: str = "") -> list[floor.Command]:
        stopped = self.replies.stop(reason, why)
        if stopped:
            self._habits.asked = ""
        return stopped

    def _reply_over(self, now: float) -> list[floor.Command]:
        """There is no reply any more; a turn that was collected over it goes on without."""
        match self.state:
            case State.REPLY:
                return self._answer_request(now)
            case State.HELD | State.BESIDE:
                return self._enter(State.BESIDE)
            case State.OVERLAP if self._turn.silent_since is None:
                return self._enter(State.CALLER)
            case State.OVERLAP:
                commands = self._await_end(now, asked=True)
                self._deadline = max(self._deadline or now, now)
                return commands
        return []

    # --- speech over a reply --------------------------------------------------------------

    def _hold(self, event: floor.SpeechStarted, now: float) -> list[floor.Command]:
        reply = self.replies.current
        if is_faint(event.below) or reply is None:
            return self._enter(State.BESIDE)
        return [floor.HoldReply(reply.number), *self._enter(State.HELD, now + self.policy.hold)]

    def _resume(self, why: str) -> list[floor.Command]:
        held = self.replies.current if self.state is State.HELD else None
        return [floor.ResumeReply(held.number, why)] if held else []

    def _candidate(self, now: float) -> Candidate:
        answers = not self.replies.active and self._habits.asked_a_question
        return self._turn.candidate(now, answers=answers)

    def _weigh(self, now: float) -> list[floor.Command]:
        verdict, why = judge(self._candidate(now))
        if verdict is Verdict.INTERRUPT:
            return self._interrupt(why, now)
        return self._let_go(why, now) if verdict is Verdict.LET_GO else []

    def _overdue(self, now: float) -> list[floor.Command]:
        """The hold has lasted long enough: go on, and decide when more is known."""
        candidate = self._candidate(now)
        lasting = candidate.speech >= self.policy.barge_in and not is_weak(candidate.below)
        if candidate.words is None and lasting:
            return self._interrupt("lasting speech that is not yet recognised", now)
        if decided := self._weigh(now):
            return decided
        return [*self._resume(judge(candidate)[1]), *self._enter(State.BESIDE)]

    def _let_go(self, why: str, now: float) -> list[floor.Command]:
        return [*self._resume(why), *self._discard(why, now)]

    def _interrupt(self, why: str, now: float) -> list[floor.Command]:
        commands = [*self._announce(), *self._stop("turn_detected", why)]
        if self._turn.silent_since is None:
            return [*commands, *self._enter(State.CALLER)]
        return [*commands, *self._await_end(now, asked=True)]

    # --- the client's requests ------------------------------------------------------------

    def _request(self, request: str, now: float) -> list[floor.Command]:
        ended = self._end_stopgap(now)
        if self.replies.active or self.replies.requested is not None:
            return [floor.Refuse("conversation_already_has_active_response")]
        self.replies.calls_are_stale()
        self.replies.requested = request
        answer = self._answer_request(now) if self.state is State.IDLE else self.replies.drop()
        return [*ended, *answer]

    def _cancel(self, now: float) -> list[floor.Command]:
        if not self.replies.active:
            return [floor.Refuse("response_cancel_not_active")]
        return [*self._stop("client_cancelled"), *self._reply_over(now)]

    def _end_turn(self, now: float) -> list[floor.Command]:
        if self.state in (State.PAUSED, State.DUE) and self._turn.text is not None:
            return self._commit(now)
        commands: list[floor.Command] = []
        if self.state in (State.HELD, State.BESIDE):
            commands = [*self._announce(), *self._stop("turn_detected", "the client commits")]
        if self._turn.silent_since is None:
            self._pauses += 1
            commands.append(floor.Transcribe(self._pauses))
        return [*commands, *self._enter(State.WAITING, now + self.policy.recognition_timeout)]

    def _clear(self, now: float) -> list[floor.Command]:
        return self._let_go("cleared by the client", now) if self.turn else []


_UNDER_WAY = (State.CALLER, State.PAUSED, State.DUE, State.HELD, State.BESIDE)
"""In which the client can end the caller's turn."""
