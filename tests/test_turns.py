"""The turn manager: what happens in one call, and what never does (design, section 3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant import floor as t
from assistant.endpointing import Pause, profile, silence_needed
from assistant.evidence import Habits, Turn
from assistant.interruption import same_words
from assistant.turns import State, TurnManager

POLICY = t.Policy()
NORMAL = profile("normal")
SURE = 0.99
"""An endpointer's score that, with a whole sentence, ends a turn soon."""


def play(manager: TurnManager, *script: tuple[float, t.Event | None]) -> list[t.Command]:
    """Run (time, event) pairs, firing every deadline on the way; None only lets time pass."""
    commands: list[t.Command] = []
    for now, event in script:
        while (due := manager.timer()) is not None and due <= now:
            commands += manager.fire(due)
        if event is not None:
            commands += manager.receive(event, now)
    return commands


def needed(text: str, probability: float = SURE, speech: float = 0.5) -> float:
    return silence_needed(Pause(probability, text, speech, None), NORMAL)


def said(text: str, *, at: float = 1.0, probability: float = SURE) -> list[tuple[float, t.Event]]:
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
    play(manager, *said("Hello there."), (1.8, t.ReplyReady(1)), (2.0, None))
    assert manager.state is State.REPLY
    return manager


def plain(commands: list[t.Command]) -> list[t.Command]:
    """The commands without their reasons, which are for people."""
    return [replace(c, why="") if hasattr(c, "why") else c for c in commands]


def test_complete_turn_is_answered_after_the_short_silence() -> None:
    manager = TurnManager(POLICY)
    text = "What time is it?"
    commands = play(manager, *said(text, at=1.0))
    assert commands == [
        t.BeginTurn(1),
        t.AnnounceSpeech(1),
        t.Transcribe(1),
        t.ScoreEndpoint(1),
        t.StartReply(1, speculative=True, said=text),
    ]
    assert needed(text) < 0.5
    assert manager.timer() == pytest.approx(1.0 + needed(text))
    assert play(manager, (1.0 + needed(text), None)) == [], "nothing can be heard yet"
    assert manager.state is State.DUE
    committed, published = play(manager, (1.5, t.ReplyReady(1)))
    assert isinstance(committed, t.CommitTurn)
    assert "P(over)" in committed.why
    assert plain([committed, published]) == [t.CommitTurn(1, text), t.PublishReply(1)]


def test_incomplete_turn_waits_and_is_not_speculated_on() -> None:
    manager = TurnManager(POLICY)
    commands = play(manager, *said("I went to the", probability=0.1))
    assert not any(isinstance(command, t.PublishReply) for command in commands)
    assert manager.timer() == pytest.approx(1.0 + NORMAL.most)
    late = plain(play(manager, (1.1 + NORMAL.most + POLICY.linger, None)))
    assert late == [t.CommitTurn(1, "I went to the"), t.PublishReply(1)]


def test_profiles_wait_differently() -> None:
    due = []
    for name in ("quick", "normal", "patient"):
        manager = TurnManager(t.Policy(profile=name))
        play(manager, *said("I was born in Bern.", probability=0.8))
        due.append(manager.timer())
    assert due[0] < due[1] < due[2]  # type: ignore[operator]  # each has a deadline


def test_going_on_reopens_the_turn_and_drops_the_speculation() -> None:
    manager = TurnManager(t.Policy(profile="patient"))
    play(manager, *said("I went to school."))
    assert play(manager, (1.23, t.SpeechStarted(0.1))) == [t.DropReply(1)]
    assert manager.state is State.CALLER
    assert play(manager, (1.3, t.Transcribed(1, "late"))) == []
    text = "I went to school in Bern."
    commands = play(
        manager,
        (2.2, t.SpeechPaused(0.2, 0.7)),
        (2.21, t.EndpointScored(3, SURE)),
        (2.22, t.Transcribed(3, text)),
        (4.0, None),
    )
    assert plain(commands[-2:]) == [t.CommitTurn(1, text), t.PublishReply(2)]


def test_a_sound_as_the_turn_would_end_is_waited_for_until_it_is_speech_or_none() -> None:
    heard = [*said("I walked to the library."), (1.35, t.SpeechSuspected()), (1.4, None)]
    manager = TurnManager(POLICY)
    play(manager, *heard, (1.41, t.ReplyReady(1)))
    assert manager.state is State.DUE
    assert play(manager, (1.43, t.SpeechStarted(0.1))) == [t.DropReply(1)]

    manager = TurnManager(POLICY)
    play(manager, *heard, (1.41, t.ReplyReady(1)))
    assert manager.state is State.DUE
    commands = play(manager, (1.46, None))
    assert plain(commands) == [t.CommitTurn(1, "I walked to the library."), t.PublishReply(1)]


def test_a_caller_who_goes_on_before_the_reply_can_be_heard_reopens_the_turn() -> None:
    manager = TurnManager(POLICY)
    play(manager, *said("I walked to the library."), (1.6, None))
    assert manager.state is State.DUE
    assert play(manager, (1.7, t.SpeechStarted(0.1))) == [t.DropReply(1)]
    assert manager.state is State.CALLER
    assert play(manager, (1.8, t.ReplyReady(1))) == []


def test_a_slow_reply_does_not_keep_a_turn_open_for_ever() -> None:
    manager = TurnManager(POLICY)
    text = "What time is it?"
    play(manager, *said(text), (1.5, None))
    committed = plain(play(manager, (1.5 + POLICY.linger, None)))
    assert committed == [t.CommitTurn(1, text), t.PublishReply(1)]


def test_a_caller_who_pauses_long_is_given_longer() -> None:
    """The same pause in the same words is waited out longer after long pauses of this caller."""
    due = []
    for pause in (0.3, 1.5):
        manager = TurnManager(POLICY)
        now = 1.0
        play(manager, (now, t.SpeechStarted(0.1)))
        for _ in range(4):
            play(manager, (now + 1, t.SpeechPaused(0.1, 1.0)))
            play(manager, (now + 0.9 + pause + 0.1, t.SpeechStarted(0.1)))
            now += 1 + pause
        play(manager, (now + 1, t.SpeechPaused(0.1, 1.0)))
        play(manager, (now + 1, t.EndpointScored(manager._pauses, 0.9)))
        play(manager, (now + 1, t.Transcribed(manager._pauses, "I was born in Bern.")))
        due.append(manager.timer() - now)  # type: ignore[operator]  # it has a deadline
    assert due[0] < due[1]


@pytest.mark.parametrize(
    ("words", "times"),
    [("and he followed me to school", 2), ("what did you say to me", 1), ("stop it now", 1)],
)
def test_after_an_answer_too_soon_the_next_waits_twice_as_long(words: str, times: int) -> None:
    manager = replying()
    text = "I was born in Bern."
    play(manager, (2.3, t.SpeechStarted(0.1)), (3.1, t.Heard("", words)))
    assert manager.state is State.CALLER, "the reply was half a second old"
    play(
        manager,
        (4.1, t.SpeechPaused(0.1, 1.5)),
        (4.11, t.EndpointScored(2, SURE)),
        (4.12, t.Transcribed(2, f"{words}. {text}")),
    )
    needed_then = manager.timer() - 4.0  # type: ignore[operator]  # it has a deadline
    assert needed_then == pytest.approx(times * needed(f"{words}. {text}", speech=1.5))


def test_an_answer_too_soon_is_forgotten_after_four_turns() -> None:
    habits, usual = Habits(), needed("I was born in Bern.")
    waits = []
    for age in (0.5, 0.0, 0.0, 0.0, 0.0, 0.0):
        turn = Turn(1, onset=0.0, age=age, text="I was born in Bern.", completeness=SURE)
        waits.append(round(habits.silence_needed(turn, POLICY) / usual, 3))
        habits.committed(turn)
    assert waits == [2, 2, 2, 2, 2, 1]


def test_a_reply_is_guessed_while_the_caller_still_speaks() -> None:
    manager = TurnManager(POLICY)
    text = "What time is it?"
    play(manager, (0.5, t.SpeechStarted(0.1)))
    assert play(manager, (0.9, t.Heard("What", "What time"))) == [t.Prefill("What time")]
    guess = play(manager, (1.05, t.Heard("What time is", text, quiet=True)))
    assert guess == [t.StartReply(1, speculative=True, said=text)]
    end = [
        (1.1, t.SpeechPaused(0.1, 0.5)),
        (1.11, t.EndpointScored(1, SURE)),
        (1.12, t.Transcribed(1, "what time is it")),
        (4.0, None),
    ]
    assert t.PublishReply(1) in play(manager, *end)


def test_the_language_model_is_asked_where_it_can_tell_before_a_guess() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (0.9, t.Heard("What", "What time")))
    play(manager, (1.0, t.Rated("What", 0.0)))
    text = "What time is it?"
    assert play(manager, (1.2, t.Heard("What", text, quiet=True))) == [t.Prefill(text)]
    start = [t.StartReply(1, speculative=True, said=text)]
    assert play(manager, (1.25, t.Rated(text, 0.9))) == start


def test_words_that_want_more_are_waited_for_and_words_that_end_are_not() -> None:
    due = []
    for ends in (0.0, 0.9):
        manager = TurnManager(POLICY)
        play(manager, (0.5, t.SpeechStarted(0.1)), (0.9, t.Rated("I", 0.0)))
        play(manager, (1.1, t.SpeechPaused(0.1, 0.5)), (1.11, t.EndpointScored(1, 0.6)))
        text = "I was born in Bern."
        assert t.Prefill(text) in play(manager, (1.12, t.Transcribed(1, text)))
        play(manager, (1.13, t.Rated(text, ends)))
        due.append(manager.timer())
    assert due[1] < due[0]  # type: ignore[operator]  # both have a deadline


def test_words_that_want_more_are_no_guess_however_settled() -> None:
    manager = TurnManager(t.Policy(guess_within=1.0))
    play(manager, (0.5, t.SpeechStarted(0.1)), (0.9, t.Rated("I", 0.0)))
    assert play(manager, (1.3, t.Heard("I", "I walked to", quiet=True))) == [
        t.Prefill("I walked to")
    ]
    assert play(manager, (1.35, t.Rated("I walked to", 0.0))) == []


def test_a_guess_that_was_wrong_is_dropped() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)))
    play(manager, (1.3, t.Heard("What time", "What time is it?", quiet=True)))
    more = play(manager, (1.6, t.Heard("What time is it", "What time is it in")))
    assert more == [t.DropReply(1), t.Prefill("What time is it in")]


def test_words_that_differ_from_the_guess_get_a_reply_of_their_own() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)))
    play(manager, (1.3, t.Heard("What time", "What time is it?", quiet=True)))
    play(manager, (1.4, t.SpeechPaused(0.1, 0.8)), (1.41, t.EndpointScored(1, SURE)))
    text = "What time is it now?"
    assert play(manager, (1.42, t.Transcribed(1, text))) == [
        t.DropReply(1),
        t.StartReply(2, speculative=True, said=text),
    ]


def test_server_vad_counts_silence_only() -> None:
    manager = TurnManager(t.Policy(profile="", silence=0.5))
    commands = play(
        manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)), (1.3, None)
    )
    assert t.ScoreEndpoint(1) not in commands
    assert manager.timer() == pytest.approx(1.5)


def test_commit_waits_for_late_words() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    play(manager, (1.21, t.EndpointScored(1, SURE)), (1.1 + NORMAL.most, None))
    assert manager.state is State.WAITING
    late = plain(play(manager, (5.0, t.Transcribed(1, "hi"))))
    assert late == [t.CommitTurn(1, "hi"), t.StartReply(1)]


def test_words_of_an_older_pause_end_no_turn() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    play(manager, (1.25, t.SpeechStarted(0.1)), (2.2, t.SpeechPaused(0.2, 0.7)), (9.0, None))
    assert manager.state is State.WAITING
    assert play(manager, (9.1, t.Transcribed(1, "half of"))) == []
    assert t.CommitTurn(1, "half of it all") in plain(
        play(manager, (9.2, t.Transcribed(3, "half of it all")))
    )


def test_words_of_an_older_pause_are_not_those_of_this_one() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    play(manager, (1.25, t.SpeechStarted(0.1)), (2.2, t.SpeechPaused(0.2, 0.7)))
    assert play(manager, (2.3, t.Transcribed(1, "What time is it?"))) == []
    assert manager.turn is not None
    assert manager.turn.text is None


def test_a_guess_is_not_published_for_late_words_that_differ() -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)))
    play(manager, (1.3, t.Heard("What time", "What time is it?", quiet=True)))
    play(manager, (1.4, t.SpeechPaused(0.1, 0.8)), (1.5 + NORMAL.most, None))
    assert manager.state is State.WAITING
    text = "What time is it now?"
    late = plain(play(manager, (5.0, t.Transcribed(1, text))))
    assert late == [t.DropReply(1), t.CommitTurn(1, text), t.StartReply(2)]


@pytest.mark.parametrize("failure", [t.RecognitionFailed(1), None])
def test_speech_that_is_never_recognised_is_apologised_for(failure: t.Event | None) -> None:
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (1.2, t.SpeechPaused(0.2, 0.5)))
    expected = [t.CommitTurn(1, ""), t.Say(1, "not_understood")]
    assert play(manager, (40.0, failure)) == expected


def test_short_noise_is_discarded_long_speech_without_words_is_not() -> None:
    manager = TurnManager(POLICY)
    assert play(manager, *said(""), (9.0, None))[-1] == t.DiscardTurn(1, "no words", announced=True)
    assert manager.state is State.IDLE
    manager = TurnManager(POLICY)
    play(manager, (0.5, t.SpeechStarted(0.1)), (4.2, t.SpeechPaused(0.2, POLICY.lost_speech)))
    assert t.Say(1, "not_understood") in play(
        manager, (4.21, t.EndpointScored(1, SURE)), (4.3, t.Transcribed(1, "")), (9.0, None)
    )


@pytest.mark.parametrize("text", ["Hmm.", "Um, let me think.", "让我想想"])
def test_a_caller_who_thinks_aloud_is_left_alone(text: str) -> None:
    manager = TurnManager(t.Policy(idle=30))
    commands = plain(play(manager, *said(text), (9.0, None)))
    assert commands[-1] == t.CommitTurn(1, text)
    assert not any(isinstance(command, t.StartReply) for command in commands)
    assert manager.state is State.IDLE


def test_a_silent_caller_is_asked_and_then_left_alone() -> None:
    manager = TurnManager(t.Policy(idle=30, idle_asks=2))
    assert play(manager, (100.0, None)) == [], "nobody has spoken yet"
    play(manager, *said("Hello there.", at=101.0), (105.0, t.ReplyFinished(1)))
    assert play(manager, (134.9, None)) == []
    assert play(manager, (135.0, None)) == [t.Say(2, "still_there")]
    assert play(manager, (137.0, t.ReplyFinished(2)), (167.0, None)) == [t.Say(3, "still_there")]
    assert play(manager, (169.0, t.ReplyFinished(3)), (999.0, None)) == []


# --- tools that take their time -----------------------------------------------------------

SLOW = t.Policy(tool_wait=1.0, idle=30)
MOMENT = t.Say(2, "one_moment")
UP = t.CancelReply(2, "client_cancelled")


def calling(policy: t.Policy = SLOW, *calls: str) -> TurnManager:
    """A manager whose first reply is over at 3.0 and was nothing but these calls of tools."""
    manager = replying(policy)
    called = [(2.9, t.ToolCalled(call)) for call in calls or ("a",)]
    play(manager, *called, (3.0, t.ReplyDelivered(1)), (3.0, t.ReplyFinished(1)))
    return manager


def test_the_caller_is_told_once_that_a_tool_takes_its_time() -> None:
    manager = calling()
    assert play(manager, (3.9, None)) == []
    assert play(manager, (4.0, None)) == [MOMENT]
    over = [(5.0, t.ReplyDelivered(2)), (5.5, t.ReplyFinished(2))]
    assert play(manager, *over, (30.0, None)) == []
    answered = play(manager, (31.0, t.ToolAnswered("a")), (31.0, t.ReplyRequested("r")))
    assert answered == [t.StartReply(3, request="r")]


def test_a_tool_that_is_quick_needs_no_word() -> None:
    manager = calling()
    assert play(manager, (3.5, t.ToolAnswered("a")), (20.0, None)) == []


def test_the_sentence_ends_when_the_last_tool_answers() -> None:
    manager = calling(SLOW, "a", "b")
    assert play(manager, (4.0, None), (4.2, t.ToolAnswered("a"))) == [MOMENT]
    assert play(manager, (4.5, t.ToolAnswered("b"))) == [UP]
    assert play(manager, (4.5, t.ReplyRequested("r"))) == [t.StartReply(3, request="r")]


def test_a_response_create_is_not_refused_because_of_the_sentence() -> None:
    manager = calling()
    asked = play(manager, (4.0, None), (4.5, t.ReplyRequested("r")))
    assert asked == [MOMENT, UP, t.StartReply(3, request="r")]


def test_a_caller_who_speaks_need_not_be_told() -> None:
    manager = calling()
    commands = play(manager, (3.5, t.SpeechStarted(0.1)), (3.9, t.SpeechPaused(0.2, 0.5)))
    commands += play(manager, (3.9, t.Transcribed(2, "Never mind the weather.")), (20.0, None))
    assert plain(commands)[-1] == t.PublishReply(2)
    assert play(manager, (21.0, t.ReplyFinished(2)), (25.0, None)) == []


@pytest.mark.parametrize("change", [{"tool_wait": 0}, {"create_response": False}])
def test_nothing_is_said_where_nothing_may_be(change: dict[str, Any]) -> None:
    manager = TurnManager(replace(SLOW, **change))
    play(manager, (0.0, t.ReplyRequested("r")), (1.0, t.ToolCalled("a")))
    play(manager, (2.0, t.ReplyDelivered(1)), (2.0, t.ReplyFinished(1)))
    assert play(manager, (20.0, None)) == []


# --- speech over a reply ------------------------------------------------------------------


def held(at: float = 3.5) -> TurnManager:
    """A manager whose reply is held for speech that began at `at` - 0.1."""
    manager = replying()
    assert play(manager, (at, t.SpeechStarted(0.1))) == [t.BeginTurn(2), t.HoldReply(1)]
    return manager


TAKEN = [t.AnnounceSpeech(2), t.CancelReply(1, "turn_detected")]


def test_words_that_want_the_floor_interrupt() -> None:
    manager = held()
    assert plain(play(manager, (3.8, t.Heard("", "but what about")))) == TAKEN
    assert manager.state is State.CALLER


@pytest.mark.parametrize("text", ["Wait", "no, no", "Oh, stop", "Hold on", "等一下"])
def test_words_that_stop_need_no_other(text: str) -> None:
    assert plain(play(held(), (3.7, t.Heard("", text)))) == TAKEN


def test_one_word_is_not_yet_an_interruption_but_lasting_speech_with_it_is() -> None:
    manager = held()
    assert play(manager, (3.7, t.Heard("", "Tomorrow"))) == []
    assert plain(play(manager, (4.0, t.Heard("", "Tomorrow")))) == TAKEN


def test_a_young_reply_is_harder_to_interrupt() -> None:
    old = held(at=3.5)
    assert plain(play(old, (3.8, t.Heard("", "in Bern then")))) == TAKEN
    young, began = TurnManager(POLICY), 2.0
    play(young, *said("Hello."), (began, t.ReplyReady(1)))
    play(young, (began + 0.4, t.SpeechStarted(0.1)))
    assert play(young, (began + 0.6, t.Heard("", "in Bern then"))) == []


def test_a_hold_that_stays_open_resumes_and_is_decided_beside_the_reply() -> None:
    manager = held()
    resumed = play(manager, (3.6, t.SpeechPaused(0.1, 0.2)), (3.5 + POLICY.hold, None))
    assert plain(resumed) == [t.Transcribe(2), t.ResumeReply(1)]
    assert manager.state is State.BESIDE
    assert TAKEN[1] in plain(play(manager, (5.1, t.Transcribed(2, "No!"))))


def test_a_word_with_lasting_speech_interrupts_when_the_hold_ends() -> None:
    manager = held()
    assert play(manager, (3.9, t.Heard("", "Which country"))) == []
    assert plain(play(manager, (3.5 + POLICY.hold, None))) == TAKEN


def test_a_hummed_assent_that_is_misheard_does_not_interrupt_and_a_clear_word_does() -> None:
    end = (3.9, t.SpeechPaused(0.1, 0.48))
    humming = play(held(), end, (3.95, t.Transcribed(2, "I'm him.", 0.46)))
    assert isinstance(humming[-1], t.DiscardTurn)
    assert plain(play(held(), end, (3.95, t.Transcribed(2, "In Bern.", 0.8))))[1:3] == TAKEN


def test_lasting_speech_that_is_not_yet_recognised_interrupts() -> None:
    assert plain(play(held(), (3.5 + POLICY.hold, None))) == TAKEN


def test_a_weak_voice_has_to_be_recognised_first() -> None:
    manager = replying()
    play(manager, (3.5, t.SpeechStarted(0.1, below=7)))
    assert plain(play(manager, (3.5 + POLICY.hold, None))) == [t.ResumeReply(1)]


@pytest.mark.parametrize(
    ("below", "confidence", "taken"), [(9, 0.3, False), (9, 0.8, True), (2, 0.3, True)]
)
def test_a_murmur_in_the_background_is_no_turn(
    below: float, confidence: float, *, taken: bool
) -> None:
    manager = TurnManager(POLICY)
    words = t.Transcribed(1, "So it never started.", confidence)
    commands = play(
        manager, (1.0, t.SpeechStarted(0.1, below)), (3.0, t.SpeechPaused(0.1, 2.0, below)),
        (3.1, words), (9.0, None), (9.1, t.ReplyReady(1)), (19.0, None),
    )  # fmt: skip
    assert any(isinstance(command, t.CommitTurn) for command in commands) == taken
    assert any(isinstance(command, t.DiscardTurn) for command in commands) != taken


def test_a_turn_that_ends_in_a_murmur_is_not_one() -> None:
    manager = TurnManager(POLICY)
    play(manager, (1.0, t.SpeechStarted(0.1)), (3.0, t.SpeechPaused(0.1, 2.0)))
    play(manager, (3.2, t.SpeechStarted(0.1, 9)), (4.0, t.SpeechPaused(0.1, 0.7, 9)))
    text = "I was born in Bern, or so."
    assert t.CommitTurn(1, text) in plain(
        play(manager, (4.1, t.Transcribed(3, text, 0.3)), (9.0, None), (19.0, None))
    )


def test_a_murmur_is_taken_where_the_client_ends_the_turn() -> None:
    manager = TurnManager(POLICY)
    play(manager, (1.0, t.SpeechStarted(0.1, 9)), (3.0, t.SpeechPaused(0.1, 2.0, 9)))
    commands = play(manager, (3.1, t.Transcribed(1, "Hello.", 0.3)), (3.2, t.CommitRequested()))
    assert t.CommitTurn(1, "Hello.") in plain(commands)


def test_a_noise_that_lasts_does_not() -> None:
    manager = held()
    assert play(manager, (3.8, t.Heard("", ""))) == []
    assert plain(play(manager, (3.5 + POLICY.hold, None))) == [t.ResumeReply(1)]


@pytest.mark.parametrize("text", ["", "Mm-hmm.", "Yeah, right.", "Oh, I see.", "嗯", "是的"])
def test_backchannel_and_noise_resume_the_reply(text: str) -> None:
    manager = held()
    commands = play(manager, (3.7, t.SpeechPaused(0.2, 0.2)), (3.9, t.Transcribed(2, text)))
    assert plain(commands[1:2]) == [t.ResumeReply(1)]
    assert isinstance(commands[2], t.DiscardTurn)
    assert manager.state is State.REPLY


def test_yes_is_an_answer_when_the_reply_was_a_question() -> None:
    manager = replying()
    play(manager, (3.0, t.ReplyDelivered(1, "Would you like to hear more?")))
    play(manager, (3.1, t.SpeechStarted(0.1)), (3.4, t.SpeechPaused(0.1, 0.3)))
    assert plain(play(manager, (3.5, t.Transcribed(2, "Yes."))))[:2] == TAKEN


def test_the_reply_s_own_words_and_doubtful_ones_do_not_interrupt() -> None:
    for heard in (t.Heard("", "the moon is far", echoed=0.9), t.Heard("", "go a", confidence=0.2)):
        manager = held()
        assert play(manager, (3.8, heard)) == []
        assert manager.state is State.HELD


def test_a_faint_voice_neither_holds_nor_interrupts() -> None:
    manager = replying()
    assert play(manager, (3.5, t.SpeechStarted(0.1, below=14))) == [t.BeginTurn(2)]
    assert manager.state is State.BESIDE
    assert play(manager, (4.0, t.Heard("", "and now the weather", below=14))) == []
    commands = play(
        manager, (4.5, t.SpeechPaused(0.1, 1.0, below=14)), (4.6, t.Transcribed(2, "the weather"))
    )
    assert isinstance(commands[-1], t.DiscardTurn)
    assert manager.state is State.REPLY


def test_short_words_over_a_reply_take_the_floor() -> None:
    manager = held()
    play(manager, (3.7, t.SpeechPaused(0.2, 0.2)))
    commands = plain(play(manager, (3.9, t.Transcribed(2, "Tomorrow."))))
    assert commands[:2] == TAKEN
    late = plain(play(manager, (3.91, t.EndpointScored(2, SURE)), (9.0, None)))
    assert t.CommitTurn(2, "Tomorrow.") in late


def outlasting() -> TurnManager:
    """Speech over a reply's last words, which goes on after it."""
    manager = replying()
    play(manager, (4.0, t.ReplyDelivered(1, "Shall I go on?")), (4.3, t.SpeechStarted(0.1)))
    assert play(manager, (4.5, t.ReplyFinished(1))) == [], "a client would cut off the last of it"
    return manager


def test_speech_that_outlasts_the_reply_becomes_a_turn() -> None:
    manager = outlasting()
    assert play(manager, (4.6, t.Heard("", ""))) == []
    commands = play(manager, (5.2, t.Heard("", "and now")))
    assert commands == [t.AnnounceSpeech(2)]
    assert manager.state is State.CALLER
    text = "And now the weather, please."
    play(manager, (6.0, t.SpeechPaused(0.1, 1.7)), (6.1, t.Transcribed(2, text)))
    late = plain(play(manager, (6.2, t.EndpointScored(2, SURE)), (9.0, None)))
    assert t.CommitTurn(2, text) in late


def test_an_answer_that_begins_over_the_end_of_the_question_is_one() -> None:
    manager = outlasting()
    commands = play(manager, (4.7, t.SpeechPaused(0.1, 0.3)), (4.8, t.Transcribed(2, "Yes.")))
    assert plain(commands)[1] == t.AnnounceSpeech(2)
    late = plain(play(manager, (4.9, t.EndpointScored(2, SURE)), (9.0, None)))
    assert t.CommitTurn(2, "Yes.") in late


def test_noise_that_outlasts_the_reply_is_no_turn() -> None:
    manager = outlasting()
    babble = t.Heard("", "I'm sorry to walk,", confidence=0.2)
    assert play(manager, (5.2, babble), (6.2, babble)) == []
    end = (7.0, t.SpeechPaused(0.1, 2.6)), (7.1, t.Transcribed(2, "I'm sorry to walk,", 0.0))
    commands = play(manager, *end)
    assert commands[1:] == [t.DiscardTurn(2, "doubtful words: I'm sorry to walk,")]
    assert manager.state is State.IDLE


def test_speech_that_outlasts_the_reply_is_not_dropped_silently_without_a_recogniser() -> None:
    manager = outlasting()
    commands = play(manager, (7.0, t.SpeechPaused(0.1, 2.6)), (7.1, t.RecognitionFailed(2)))
    assert t.Say(2, "not_understood") in commands


def test_uninterruptible_reply_lets_the_caller_speak_beside_it() -> None:
    manager = replying(t.Policy(interrupt_response=False))
    assert play(manager, (3.0, t.SpeechStarted(0.1))) == [t.BeginTurn(2), t.AnnounceSpeech(2)]
    play(manager, (4.0, t.SpeechPaused(0.2, 0.8)), (4.1, t.Transcribed(2, "Hello.")))
    assert manager.state is State.OVERLAP
    play(manager, (9.0, t.ReplyDelivered(1)), (9.2, t.ReplyFinished(1)))
    late = plain(play(manager, (9.3, t.EndpointScored(2, SURE)), (13.0, None)))
    assert t.CommitTurn(2, "Hello.") in late


def test_response_create_is_refused_while_one_is_live_and_waits_for_the_caller() -> None:
    manager = replying()
    refused = [t.Refuse("conversation_already_has_active_response")]
    assert play(manager, (3.0, t.ReplyRequested("a"))) == refused
    play(manager, (4.0, t.ReplyDelivered(1)))
    assert play(manager, (4.1, t.ReplyRequested("b"))) == []
    assert play(manager, (4.2, t.ReplyFinished(1))) == [t.StartReply(2, request="b")]


def test_response_create_during_a_turn_is_answered_with_it() -> None:
    manager = TurnManager(t.Policy(profile="patient"))
    text = "I was born in Bern."
    commands = play(manager, *said(text), (1.23, t.ReplyRequested("a")), (9.0, None))
    expected = [t.DropReply(1), t.CommitTurn(1, text), t.StartReply(2, request="a")]
    assert plain(commands[-3:]) == expected


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
    assert t.CommitTurn(1, "hi") in plain(play(manager, (1.0, t.Transcribed(1, "hi"))))


def test_no_response_when_the_client_creates_them_itself() -> None:
    manager = TurnManager(t.Policy(create_response=False))
    assert plain(play(manager, *said("Hello."), (2.0, None)))[-1] == t.CommitTurn(1, "Hello.")
    assert manager.state is State.IDLE


# --- invariants ---------------------------------------------------------------------------

TEXTS = st.sampled_from(["What time is it?", "Stop.", "", "mm-hmm", "hmm", "in the", "好"])
# Relative to the live number: stale ones must match nothing. Most are right, and speech and its
# answers come often, or hardly a call would ever get as far as a reply.
NUMBERS = st.sampled_from([0, 0, 0, 0, -1, 1])
KINDS = (
    "speech speech speech suspect pause pause pause score score words words words failed heard "
    "delivered finished finished finished finished ready ready request cancel commit clear policy "
    "answered answered answered answered calls tool"
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
        self.said = self.committed = ""
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
            case t.StartReply(number, speculative, request, said):
                assert self.live is None, "two live replies"
                assert self.prepared is None
                if speculative:
                    self.prepared, self.said = number, said
                else:
                    self.live = number
                if request:
                    self.asked.remove(request)
            case t.Say(number, _, request):
                assert self.live is None
                assert self.prepared is None
                self.live = number
                if request:
                    self.asked.remove(request)
            case t.PublishReply(number):
                assert self.prepared == number, "published what was not prepared"
                assert same_words(self.said, self.committed), "it answers other words"
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
                self.committed = command.text if isinstance(command, t.CommitTurn) else ""
                self.open_turn = None
                self.settled += 1
            case t.AnnounceSpeech(turn):
                assert self.open_turn == turn

    def make(self, kind: str, data: tuple[str, int, float, bool]) -> t.Event | None:
        text, offset, fraction, flag = data
        current = self.manager.replies.current
        reply = current.number if current else 0
        pause = self.manager._pauses + offset
        match kind:
            case "speech" if not self.speaking:
                self.speaking = True
                return t.SpeechStarted(0.1, below=12 if fraction > 0.9 else 0)
            case "suspect" if not self.speaking:
                return t.SpeechSuspected()
            case "pause" if self.speaking:
                self.speaking = False
                return t.SpeechPaused(0.2, fraction * 2)
            case "score":
                return t.EndpointScored(pause, fraction)
            case "words":
                return t.Transcribed(pause, text, fraction)
            case "failed":
                return t.RecognitionFailed(pause)
            case "heard" if text:
                return t.Heard("", text, flag, fraction)
            case "ready":
                return t.ReplyReady(reply + offset)
            case "delivered":
                return t.ReplyDelivered(reply + offset)
            case "finished" if self.live == reply + offset:
                self.live = None
                return t.ReplyFinished(reply + offset)
            case "calls" if self.live is not None:
                return t.ToolCalled(str(offset))
            case "tool":
                return t.ToolAnswered(str(offset))
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
                    t.Policy(
                        speculate_within=flag,
                        create_response=fraction > 0.2,
                        profile="normal" if offset >= 0 else "",
                        idle=5 * flag,
                        tool_wait=offset + 1,
                    )
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
            world.step(t.Transcribed(world.manager._pauses, "What time is it?"))
            world.step(t.EndpointScored(world.manager._pauses, SURE))
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
