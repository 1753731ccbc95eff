"""The turn-taking benchmark's own logic: its scenarios, its figures from calls made up here."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant import floor
from assistant.clients.caller import demo, questions
from assistant.clients.wav import RATE, Played
from assistant.record import TurnLog
from assistant.turns import TurnManager
from duplex import lines, noises
from duplex.lines import LEVEL, active_rms, scaled
from duplex.measures import METRICS, Metric, Probe, probes, rows
from duplex.picture import picture
from duplex.scenario import VOICES, Cue, Kind, Scenario, ScenarioError, Script, load, script
from duplex.take import AUDIO, COMMITTED, DONE, UNDERSTOOD, Sounded, Take
from duplex.words import errors, heard_error, once, right

# --- scenarios --------------------------------------------------------------------------------


def test_pauses_are_where_the_brackets_are() -> None:
    assert script("Tell me, um, [1.2] how it [0.8] ends.") == Script(
        "Tell me, um, how it ends.", ((12, 1.2), (19, 0.8))
    )
    assert script("Stop.") == Script("Stop.")


@pytest.mark.parametrize("words", ["[1.2] so", "so [1.2]", "so [1] [2] on", "[1]"])
def test_a_pause_without_words_around_it_is_refused(words: str) -> None:
    with pytest.raises(ScenarioError, match="expected words before and after each pause"):
        script(words)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Kind.FINISHED, "scenarios = 1", "finished.toml: Expected `array`, got `int`"),
        (Kind.FINISHED, "scenarios = [", "finished.toml: "),
        (Kind.FINISHED, "scenarios = [{name='a', voice='me'}]", "Invalid enum value 'me'"),
        (Kind.STOPS, "scenarios = [{name='a', voice='am_puck'}]", "a: expected one cue .* got 0"),
        (Kind.NOISE, "scenarios = [{name='a', voice='am_puck', cues=[{}]}]", "expected one of say"),
        (Kind.NOISE, "scenarios = [{name='a', voice='am_puck', cues=[{nois=''}]}]", "nois"),
        (
            Kind.PAUSES,
            "scenarios = [{name='a', voice='am_puck', cues=[{say='Hello.'}]}]",
            "a: expected a pause such as .* got 'Hello.'",
        ),
        (
            Kind.NOISE,
            "scenarios = [{name='a', voice='am_puck', cues=[{say='Hm', at=2},{noise='cough'}]}]",
            "order of their times",
        ),
        (Kind.ECHO, "scenarios = [{name='a', voice='am_puck'}]", "the delay of its echo"),
        (
            Kind.NOISE,
            "scenarios = [{name='a', voice='am_puck'}, {name='a', voice='am_puck'}]",
            "a: expected names that differ",
        ),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_named(tmp_path: Path, kind: Kind, text: str, message: str) -> None:
    (tmp_path / f"{kind.value}.toml").write_text(text)
    with pytest.raises(ScenarioError, match=message) as caught:
        load(kind, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", Kind)
def test_the_shipped_scenarios_are_enough_and_new(kind: Kind) -> None:
    book = load(kind)
    assert len(book.scenarios) >= 20
    assert {scenario.voice for scenario in book.scenarios} == set(VOICES)
    known = {line.text for line in [*questions(), *demo().values()]}
    said = {script(cue.say).text for scenario in book.scenarios for cue in scenario.cues}
    assert not said & known
    pauses = itertools.chain.from_iterable(
        script(cue.say).pauses for scenario in book.scenarios for cue in scenario.cues
    )
    assert all(0.8 <= seconds <= 1.5 for _, seconds in pauses)


# --- figures ----------------------------------------------------------------------------------


def take(kind: Kind, cue: Sounded, *events: tuple[float, dict[str, Any]], reply: str = "") -> Take:
    return Take(kind, Scenario("x", "am_puck", reply=reply), [cue], list(events))


def event(at: float, kind: str, **fields: Any) -> tuple[float, dict[str, Any]]:
    return at, {"type": kind, **fields}


def audio(at: float, item: str) -> tuple[float, dict[str, Any]]:
    return event(at, AUDIO, item_id=item)


def done(at: float, item: str, status: str) -> tuple[float, dict[str, Any]]:
    return event(at, DONE, response={"status": status, "output": [{"id": item}]})


def played(item: str, start: float, end: float) -> Played:
    return Played(item, round(start * RATE), np.ones(round((end - start) * RATE), np.int16))


def values(of: Take) -> dict[str, float]:
    (probe,) = probes(of)
    return probe.values


def test_voice_to_voice_is_from_last_to_first_sample() -> None:
    cue = Sounded(Cue(say="Hello."), 1.0, 2.0)
    found = values(
        take(Kind.FINISHED, cue, event(2.4, COMMITTED), audio(2.5, "r"), audio(2.6, "r"))
    )
    assert found == pytest.approx({"answered": 1, "latency": 0.5, "cut_in": 0})
    assert values(take(Kind.FINISHED, cue)) == {"answered": 0, "cut_in": 0}


@pytest.mark.parametrize(
    ("committed", "cut_ins"), [((6.5,), 0), ((2.5,), 1), ((3.5,), 1), ((2.5, 4.5), 2), ((5.5,), 1)]
)
def test_a_turn_before_the_caller_goes_on_is_a_cut_in(
    committed: tuple[float, ...], cut_ins: int
) -> None:
    cue = Sounded(Cue(say="I [1] am [1] here."), 1.0, 6.0, ((2.0, 3.0), (4.0, 5.0)))
    events = [event(at, COMMITTED) for at in committed]
    found = values(take(Kind.PAUSES, cue, *events, event(6.6, COMMITTED), audio(6.7, "r")))
    assert found == pytest.approx({"answered": 1, "latency": 0.7, "pauses": 2, "cut_ins": cut_ins})


def test_audio_alone_is_a_cut_in_too() -> None:
    cue = Sounded(Cue(say="I [1] am."), 1.0, 4.0, ((2.0, 3.0),))
    assert values(take(Kind.PATIENT, cue, audio(2.9, "r")))["cut_ins"] == 1


def test_a_stop_is_measured_from_the_onset_to_both_last_samples() -> None:
    cue = Sounded(Cue(say="Wait."), 3.0, 3.4)
    events = [audio(1.0, "r"), audio(3.2, "r"), done(3.3, "r", "cancelled")]
    call = take(Kind.STOPS, cue, *events, event(3.8, COMMITTED), audio(4.0, "s"), reply="Speak.")
    call.played = [played("r", 1.0, 3.35), played("s", 4.0, 4.5)]
    found = values(call)
    assert found == pytest.approx(
        {"answered": 1, "latency": 0.6, "stopped": 1, "stop_delivered": 0.2, "stop_played": 0.35}
    )


def test_a_reply_that_was_all_sent_is_stopped_by_emptying_the_loudspeaker() -> None:
    cue = Sounded(Cue(say="Wait."), 3.0, 3.4)
    call = take(Kind.STOPS, cue, audio(1.0, "r"), done(2.9, "r", "completed"), reply="Speak.")
    assert values(call)["stopped"] == 0
    call.cuts, call.played = [(3.3, "r")], [played("r", 1.0, 3.3)]
    assert values(call)["stop_played"] == pytest.approx(0.3)


def test_a_reply_that_had_stopped_before_is_not_stopped_by_the_caller() -> None:
    cue = Sounded(Cue(say="Wait."), 3.0, 3.4)
    call = take(Kind.OVER_ECHO, cue, audio(1.0, "r"), done(2.0, "r", "cancelled"), reply="Speak.")
    call.played = [played("r", 1.0, 2.1)]
    assert values(call) == {"answered": 0, "stopped": 0}


@pytest.mark.parametrize("kind", [Kind.BACKCHANNELS, Kind.NOISE, Kind.SIDE_TALK])
def test_a_reply_survives_when_nothing_comes_of_the_cue(kind: Kind) -> None:
    cue = Sounded(Cue(noise="door"), 3.0, 3.4)
    call = take(kind, cue, audio(1.0, "r"), done(6.0, "r", "completed"), reply="Speak.")
    call.gaps = [(1.5, 0.7), (3.3, 0.25), (5.2, 0.9)]
    assert values(call) == {"survived": 1, "pause": 0.25}
    call.cuts = [(3.5, "r")]
    assert values(call)["survived"] == 0
    call.cuts, call.events = [], [*call.events, event(4.0, COMMITTED)]
    assert values(call)["survived"] == 0
    call.events = [audio(1.0, "r"), done(3.5, "r", "cancelled")]
    assert values(call)["survived"] == 0


def test_louder_noise_is_told_apart() -> None:
    cue = Sounded(Cue(noise="door", level_db=-6), 3.0, 3.4)
    assert values(take(Kind.NOISE, cue)) == {"loud_survived": 1}


def test_rows_say_what_holds() -> None:
    found = [
        Probe(Kind.PAUSES, "a", "", {"pauses": 1, "cut_ins": 0}),
        Probe(Kind.PAUSES, "b", "", {"pauses": 2, "cut_ins": 1}),
        Probe(Kind.PAUSES, "c", "", {}),
    ]
    share = Metric((Kind.PAUSES,), "cut in", "cut_ins", "share", 0.05, of="pauses")
    worst = Metric((Kind.PAUSES,), "worst", "cut_ins", "worst", 1.0)
    least = Metric((Kind.PAUSES,), "least", "pauses", "share", 1.6, least=True)
    none = Metric((Kind.PAUSES,), "none", "latency", "median", 1.0)
    made = rows(found, (share, worst, least, none, Metric((Kind.ECHO,), "", "x", "share")))
    assert [(row.count, row.figure, row.holds) for row in made] == [
        (3, pytest.approx(1 / 3), False),
        (2, 1.0, True),
        (2, 1.5, False),
        (0, None, None),
    ]


def test_every_kind_has_a_row() -> None:
    assert {kind for metric in METRICS for kind in metric.kinds} == set(Kind)


def test_a_take_knows_its_words() -> None:
    delta = "response.output_audio_transcript.delta"
    call = take(
        Kind.STOPS, Sounded(Cue(say="Wait."), 3.0, 3.4),
        event(0.9, delta, item_id="r", delta="Once "), audio(1.0, "r"),
        event(1.1, delta, item_id="r", delta="upon."), event(3.9, UNDERSTOOD, transcript="Wait."),
        event(4.0, delta, item_id="s", delta="Yes?"), reply="Speak.",
    )  # fmt: skip
    assert (call.written("r"), call.written("s")) == ("Once upon.", "Yes?")
    assert (call.understood(), call.understood(4.0)) == ("Wait.", "")


# --- words ------------------------------------------------------------------------------------


def test_words_are_compared_without_marks_case_and_fillers() -> None:
    assert errors("Um, tell me more.", "tell me More") == 0
    assert errors("Tell me more.", "") == 3
    assert right("No, no.", "No no!", alone="")
    assert not right("Wait.", "Wet.", alone="Wait.")
    assert right("Wait.", "Wet.", alone="Wet.")


@pytest.mark.parametrize(
    ("kept", "recognised", "error"),
    [
        ("Once upon a time", "once upon a time", 0),
        ("Once upon a time", "Once upon a dime a fox", 2),
        ("Once upon a time a fox", "once upon", 4),
        ("", "", 0),
        ("Once", "", 1),
    ],
)
def test_heard_text_is_measured_in_words(kept: str, recognised: str, error: int) -> None:
    assert heard_error("Once upon a time a fox lived in a hole.", kept, recognised) == error


def test_lost_and_doubled_audio_shows_in_its_words() -> None:
    written = "The sea is salty because rivers carry minerals into it."
    assert once(written, "the sea is saltier because rivers carry minerals in to it")
    assert not once(written, "the sea is salty into it")
    assert not once(written, written + " carry minerals into it")
    assert once("", "")


# --- sounds and pictures ----------------------------------------------------------------------


def test_noises_are_the_same_every_time_and_as_loud_as_asked() -> None:
    def made() -> list[np.ndarray]:
        random = np.random.default_rng(7)
        voice = noises.far(random, random.standard_normal(RATE).astype(np.float32))
        return [
            noises.cough(random), noises.door(random), noises.keyboard(random),
            noises.babble(random, [voice]), voice,
        ]  # fmt: skip

    for first, second in zip(made(), made(), strict=True):
        assert np.array_equal(first, second)
        assert 0.2 < len(first) / RATE < 4
        level = active_rms(scaled(first, -15.0)) / 32768
        assert 20 * np.log10(level / LEVEL) == pytest.approx(-15, abs=0.1)


def test_a_pause_is_put_in_where_it_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCH_MODELS", str(tmp_path))
    second = 8000 * np.sin(np.arange(RATE) * 0.3)
    speech = np.concatenate([np.zeros(RATE // 2), second, np.zeros(480), second, np.zeros(RATE)])
    path = lines._path("one two three", "am_puck")
    path.parent.mkdir()
    mark = RATE * 3 // 2 - 300
    np.savez(path, pcm=speech.astype(np.int16), chars=[3, 13], samples=[mark, len(speech)])
    line = lines.spoken(script("one [1.2] two three"), "am_puck")
    ((begin, end),) = line.pauses
    assert begin == pytest.approx(1.02, abs=0.012), "a hundredth of margin, then the quiet gap"
    assert end - begin == pytest.approx(1.2, abs=1e-4)
    assert len(line.pcm) / RATE == pytest.approx(2 + 0.02 + 0.02 + 1.2, abs=0.002)
    assert not line.pcm[round(begin * RATE) + 1 : round(end * RATE) - 1].any()
    assert active_rms(line.pcm.astype(np.float32)) / 32768 == pytest.approx(LEVEL, rel=0.02)
    assert lines.missing([("one two three", "am_puck"), ("four", "am_puck")]) == [
        ("four", "am_puck")
    ]


def test_a_picture_shows_states_and_decisions(tmp_path: Path) -> None:
    call = take(
        Kind.STOPS, Sounded(Cue(say="Wait."), 1.0, 1.4), audio(0.5, "r"), event(2.0, COMMITTED),
        reply="Speak.",
    )  # fmt: skip
    call.began, call.played = 100.0, [played("r", 0.5, 1.3)]
    call.microphone = np.full(2 * RATE, 3000, np.int16)
    turns = TurnManager()
    log = TurnLog(str(tmp_path), "call", turns.policy, 100.1)
    for at, said in ((101.0, floor.SpeechStarted(0.1)), (101.5, floor.SpeechPaused(0.1, 0.4))):
        log.note(at, said, turns.receive(said, at))
    log.close()
    bare = picture(call, probes(call), None)
    drawn = picture(call, probes(call), tmp_path / "call.jsonl")
    assert bare.width == drawn.width
    colours = {colour for _, colour in drawn.getcolors(1 << 24)}
    assert len(colours - {colour for _, colour in bare.getcolors(1 << 24)}) > 2
