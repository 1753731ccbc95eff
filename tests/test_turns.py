"""The turn manager: what happens in one call, and what never does (design, section 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant import floor as t
from assistant.turns import State, TurnManager

POLICY = t.Policy()


def play(manager: TurnManager, *script: tuple[float, t.Event | None]) -> list[t.Command]:
    """Run (time, event) pairs, firing every deadline on the way; None only lets time pass."""
    commands: list[t.Command] = []
    for now, event in script:
        while (due := manager.timer()) is not None and due <= now:
            commands += manager.fire(due)
        if event is not None:
            commands += manager.receive(event, now)
    return commands


def said(text: str, *, at: float = 1.0, probability: float = 0.9) -> list[tuple[float, t.Event]]:
    """A caller turn: speech before `at`, a pause noticed 0.2 s later, both answers at once."""
    return [
        (at - 0.5, t.SpeechStarted(0.1)),
        (at + 0.2, t.SpeechPaused(0.2, 0.5)),
        (at + 0.21, t.EndpointScored(1, probability)),
        (at + 0.22, t.Transcribed(1, text)),
    ]


def replying(policy: t.Policy = POLICY) -> TurnManager:
    """A manager whose first reply is live."""
    manager = TurnManager(policy)
    play(manager, *said("hello there"), (2.0, None))
    assert manager.state is State.REPLY
    return manager


def test_complete_turn_is_answered_after_the_short_silence() -> None:
    manager = TurnManager(POLICY)
    commands = play(manager, *said("What time is it?", at=1.0))
    assert commands == [
        t.BeginTurn(1),
        t.AnnounceSpeech(1),
        t.Transcribe(1),
        t.ScoreEndpoint(1),
        t.StartReply(1, speculative=True),
    ]
    assert manager.timer() == pytest.approx(1.0 + POLICY.complete)
    assert play(manager, (1.0 + POLICY.complete, None)) == [
        t.CommitTurn(1, "What time is it?"),
        t.PublishReply(1),
    ]


def test_incomplete_turn_waits_and_is_not_speculated_on() -> None:
    manager = TurnManager(POLICY)
    commands = play(manager, *said("I went to the", probability=0.1))
    assert t.StartReply(1, speculative=True) not in commands
    assert manager.timer() == pytest.approx(1.0 + POLICY.incomplete)
    assert play(manager, (2.6, None)) == [t.CommitTurn(1, "I went to the"), t.StartReply(1)]


def test_going_on_reopens_the_turn_and_drops_the_speculation() -> None:
    manager = TurnManager(POLICY)
    play(manager, *said("I went to school."))
    assert play(manager, (1.25, t.SpeechStarted(0.1))) == [t.DropReply(1)]
    assert manager.state is State.CALLER
    assert play(manager, (1.3, t.Transcribed(1, "late"))) == []
    commands = play(
        manager,
        (2.2, t.SpeechPaused(0.2, 0.7)),
        (2.21, t.EndpointScored(3, 0.9)),
        (2.22, t.Transcribed(3, "I went to school in Bern.")),
        (2.4, None),
    )
    assert commands[-2:] == [t.CommitTurn(1, "I went to school in Bern."), t.PublishReply(2)]


def test_server_vad_counts_silence_only() -> None:
    manager = TurnManager(t.Policy(semantic=False, complete=0.5))
    commands = play(
        manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)), (1.3, None)
    )
    assert t.ScoreEndpoint(1) not in commands
    assert manager.timer() == pytest.approx(1.5)


def test_commit_waits_for_late_words() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    play(manager, (1.21, t.EndpointScored(1, 0.9)), (1.4, None))
    assert manager.state is State.WAITING
    assert play(manager, (1.9, t.Transcribed(1, "hi"))) == [t.CommitTurn(1, "hi"), t.StartReply(1)]


def test_words_of_an_older_pause_end_no_turn() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    play(manager, (1.25, t.SpeechStarted(0.1)), (2.2, t.SpeechPaused(0.2, 0.7)), (4.0, None))
    assert manager.state is State.WAITING
    assert play(manager, (4.1, t.Transcribed(1, "half of"))) == []
    assert t.CommitTurn(1, "half of it all") in play(
        manager, (4.2, t.Transcribed(3, "half of it all"))
    )


@pytest.mark.parametrize("failure", [t.RecognitionFailed(1), None])
def test_speech_that_is_never_recognised_is_apologised_for(failure: t.Event | None) -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    assert play(manager, (40.0, failure)) == [t.CommitTurn(1, ""), t.Apologise(1)]


def test_short_noise_is_discarded_long_speech_without_words_is_not() -> None:
    manager = TurnManager(POLICY)
    assert play(manager, *said(""), (2.0, None))[-1] == t.DiscardTurn(1, "no words", announced=True)
    assert manager.state is State.IDLE
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (4.2, t.SpeechPaused(0.2, POLICY.lost_speech)))
    assert t.Apologise(1) in play(
        manager, (4.21, t.EndpointScored(1, 0.9)), (4.3, t.Transcribed(1, "")), (5.0, None)
    )


def test_speech_over_a_reply_holds_then_interrupts() -> None:
    manager = replying()
    assert play(manager, (3.0, t.SpeechStarted(0.1))) == [t.BeginTurn(2), t.HoldReply(1)]
    assert play(manager, (3.51, None)) == [
        t.AnnounceSpeech(2),
        t.CancelReply(1, "turn_detected"),
    ]
    assert manager.state is State.CALLER


def test_words_interrupt_before_the_time_is_up() -> None:
    manager = replying()
    play(manager, (3.0, t.SpeechStarted(0.1)))
    assert play(manager, (3.1, t.Heard("wait"))) == [
        t.AnnounceSpeech(2),
        t.CancelReply(1, "turn_detected"),
    ]


@pytest.mark.parametrize("text", ["", "Mm-hmm.", "Yeah, right.", "嗯"])
def test_backchannel_and_noise_resume_the_reply(text: str) -> None:
    manager = replying()
    play(manager, (3.0, t.SpeechStarted(0.1)), (3.2, t.SpeechPaused(0.2, 0.2)))
    commands = play(manager, (3.4, t.Transcribed(2, text)))
    assert commands[0] == t.ResumeReply(1)
    assert isinstance(commands[1], t.DiscardTurn)
    assert manager.state is State.REPLY


def test_short_words_over_a_reply_take_the_floor() -> None:
    manager = replying()
    play(manager, (3.0, t.SpeechStarted(0.1)), (3.2, t.SpeechPaused(0.2, 0.2)))
    commands = play(manager, (3.4, t.Transcribed(2, "Stop.")), (3.41, t.EndpointScored(2, 0.9)))
    assert commands[:2] == [t.AnnounceSpeech(2), t.CancelReply(1, "turn_detected")]
    assert t.CommitTurn(2, "Stop.") in play(manager, (4.0, None)) + commands


def test_late_words_still_interrupt_after_the_reply_went_on() -> None:
    manager = replying()
    play(manager, (3.0, t.SpeechStarted(0.1)), (3.2, t.SpeechPaused(0.2, 0.2)))
    assert play(manager, (5.0, None)) == [t.ResumeReply(1)]
    assert t.CancelReply(1, "turn_detected") in play(manager, (5.1, t.Transcribed(2, "No!")))


def test_uninterruptible_reply_lets_the_caller_speak_beside_it() -> None:
    manager = replying(t.Policy(interrupt_response=False))
    assert play(manager, (3.0, t.SpeechStarted(0.1))) == [t.BeginTurn(2), t.AnnounceSpeech(2)]
    play(manager, (4.0, t.SpeechPaused(0.2, 0.8)), (4.1, t.Transcribed(2, "hello")))
    assert manager.state is State.OVERLAP
    play(manager, (9.0, t.ReplyDelivered(1)), (9.2, t.ReplyFinished(1)))
    assert t.CommitTurn(2, "hello") in play(manager, (9.3, t.EndpointScored(2, 0.9)), (9.4, None))


def test_response_create_is_refused_while_one_is_live_and_waits_for_the_caller() -> None:
    manager = replying()
    refused = [t.Refuse("conversation_already_has_active_response")]
    assert play(manager, (3.0, t.ReplyRequested("a"))) == refused
    play(manager, (4.0, t.ReplyDelivered(1)))
    assert play(manager, (4.1, t.ReplyRequested("b"))) == []
    assert play(manager, (4.2, t.ReplyFinished(1))) == [t.StartReply(2, request="b")]


def test_response_create_during_a_turn_is_answered_with_it() -> None:
    manager = TurnManager(POLICY)
    commands = play(manager, *said("hello"), (1.25, t.ReplyRequested("a")), (2.0, None))
    assert commands[-3:] == [t.DropReply(1), t.CommitTurn(1, "hello"), t.StartReply(2, request="a")]


def test_cancel() -> None:
    manager = TurnManager(POLICY)
    assert play(manager, (0.0, t.CancelRequested())) == [t.Refuse("response_cancel_not_active")]
    manager = replying()
    assert play(manager, (3.0, t.CancelRequested())) == [t.CancelReply(1, "client_cancelled")]
    assert manager.state is State.IDLE


def test_client_commit_ends_the_turn_at_once() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)))
    assert play(manager, (0.9, t.CommitRequested())) == [t.Transcribe(1)]
    assert t.CommitTurn(1, "hi") in play(manager, (1.0, t.Transcribed(1, "hi")))


def test_no_response_when_the_client_creates_them_itself() -> None:
    manager = TurnManager(t.Policy(create_response=False))
    assert play(manager, *said("hello"), (2.0, None))[-1] == t.CommitTurn(1, "hello")
    assert manager.state is State.IDLE


# --- invariants ---------------------------------------------------------------------------

TEXTS = st.sampled_from(["what time is it", "stop", "", "mm-hmm", "好"])
# Relative to the live number: stale ones must match nothing. Most are right, and speech and its
# answers come often, or hardly a call would ever get as far as a reply.
NUMBERS = st.sampled_from([0, 0, 0, 0, -1, 1])
KINDS = (
    "speech speech speech pause pause pause score score words words words failed heard delivered "
    "finished finished finished finished request cancel commit clear policy "
    "answered answered answered answered"
).split()


@st.composite
def event(draw: st.DrawFn) -> tuple[str, object]:
    kind = draw(st.sampled_from(KINDS))
    return kind, draw(st.tuples(TEXTS, NUMBERS, st.floats(0, 1), st.booleans()))


class World:
    """A client's and a session's view of one call; checks every command against it."""

    def __init__(self, policy: t.Policy) -> None:
        self.manager = TurnManager(policy)
        self.now = 0.0
        self.log: list[tuple[float, t.Event | None]] = []
        self.commands: list[t.Command] = []
        self.live: int | None = None
        self.prepared: int | None = None
        self.open_turn: int | None = None
        self.speaking = False
        self.spoke = self.settled = 0
        self.requests = 0
        self.asked: list[str] = []

    def step(self, event: t.Event | None) -> None:
        self.log.append((self.now, event))
        if event is None:
            commands = self.manager.fire(self.now)
        else:
            commands = self.manager.receive(event, self.now)
        for command in commands:
            self.check(command)
        self.commands += commands
        if isinstance(event, t.SpeechStarted):
            assert self.prepared is None, "what was prepared for half a turn was kept"

    def check(self, command: t.Command) -> None:
        match command:
            case t.StartReply(number, speculative, request):
                assert self.live is None, "two live replies"
                assert self.prepared is None
                if speculative:
                    self.prepared = number
                else:
                    self.live = number
                if request:
                    self.asked.remove(request)
            case t.Apologise(number, request):
                assert self.live is None
                assert self.prepared is None
                self.live = number
                if request:
                    self.asked.remove(request)
            case t.PublishReply(number):
                assert self.prepared == number, "published what was not prepared"
                assert self.live is None
                self.prepared, self.live = None, number
            case t.DropReply(number):
                assert self.prepared == number
                self.prepared = None
            case t.CancelReply(number, _):
                assert self.live == number, "a cancel names the live reply"
                self.live = None
            case t.HoldReply(number) | t.ResumeReply(number):
                assert self.live == number
            case t.BeginTurn(turn):
                assert self.open_turn is None, "the caller's words were dropped"
                self.open_turn = turn
                self.spoke += 1
            case t.CommitTurn(turn) | t.DiscardTurn(turn):
                assert self.open_turn == turn
                self.open_turn = None
                self.settled += 1
            case t.AnnounceSpeech(turn):
                assert self.open_turn == turn

    def make(self, kind: str, data: tuple[str, int, float, bool]) -> t.Event | None:
        text, offset, fraction, flag = data
        reply = self.manager.reply.number if self.manager.reply else 0
        pause = self.manager._pauses + offset
        match kind:
            case "speech" if not self.speaking:
                self.speaking = True
                return t.SpeechStarted(0.1)
            case "pause" if self.speaking:
                self.speaking = False
                return t.SpeechPaused(0.2, fraction * 2)
            case "score":
                return t.EndpointScored(pause, fraction)
            case "words":
                return t.Transcribed(pause, text)
            case "failed":
                return t.RecognitionFailed(pause)
            case "heard" if text:
                return t.Heard(text)
            case "delivered":
                return t.ReplyDelivered(reply + offset)
            case "finished" if self.live == reply + offset:
                self.live = None
                return t.ReplyFinished(reply + offset)
            case "request":
                self.requests += 1
                self.asked.append(str(self.requests))
                return t.ReplyRequested(str(self.requests))
            case "cancel":
                return t.CancelRequested()
            case "commit":
                return t.CommitRequested()
            case "clear":
                return t.ClearRequested()
            case "policy":
                return t.Configured(
                    t.Policy(speculate=flag, create_response=fraction > 0.2, semantic=offset >= 0)
                )
        return None

    def quiet(self) -> None:
        """Everybody falls silent, every question is answered, every reply ends."""
        if self.speaking:
            self.speaking = False
            self.step(t.SpeechPaused(0.2, 0.5))
        for _ in range(8):
            self.step(t.Transcribed(self.manager._pauses, "and then"))
            if (due := self.manager.timer()) is not None:
                self.now = max(self.now, due)
                self.step(None)
            if self.live is not None:
                number, self.live = self.live, None
                self.step(t.ReplyDelivered(number))
                self.step(t.ReplyFinished(number))


def drive(steps: list[tuple[float, tuple[str, object]]]) -> World:
    world = World(POLICY)
    for delay, (kind, data) in steps:
        end = world.now + delay
        while (due := world.manager.timer()) is not None and due <= end:
            world.now = max(world.now, due)
            world.step(None)
        world.now = end
        if kind == "answered":  # both answers to the latest pause, at once: a likely end
            world.step(t.Transcribed(world.manager._pauses, "what time is it"))
            world.step(t.EndpointScored(world.manager._pauses, 0.9))
            continue
        if (made := world.make(kind, data)) is not None:  # type: ignore[arg-type]
            before = len(world.commands)
            world.step(made)
            if t.Refuse("conversation_already_has_active_response") in world.commands[before:]:
                world.asked.pop()
    return world


DELAYS = st.sampled_from([0.0, 0.01, 0.05, 0.2, 1.0])
STEPS = st.lists(st.tuples(DELAYS, event()), min_size=15, max_size=60)


@given(STEPS)
def test_invariants(steps: list[tuple[float, tuple[str, object]]]) -> None:
    world = drive(steps)
    world.quiet()
    assert world.open_turn is None, "speech ended neither in a turn nor in a said reason"
    assert world.spoke == world.settled
    assert world.live is None
    assert world.prepared is None
    assert world.asked == [], "a response.create was never answered"
    assert world.manager.state is State.IDLE
    assert world.manager.timer() is None


@given(STEPS)
def test_replaying_a_log_gives_the_same_commands(
    steps: list[tuple[float, tuple[str, object]]],
) -> None:
    world = drive(steps)
    manager = TurnManager(POLICY)
    replayed: list[t.Command] = []
    for now, logged in world.log:
        replayed += manager.fire(now) if logged is None else manager.receive(logged, now)
    assert replayed == world.commands
