"""A scenario performed with the real server on loopback, its engines fakes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from assistant.clients.wav import RATE
from assistant.config import CallConfig, Config, ServerConfig
from assistant.record import began, replay
from duplex.measures import probes
from duplex.scenario import Book, Cue, Kind, Scenario
from duplex.stage import VoidError, perform
from tests.loopback import NamedEngines, serving


async def test_a_scenario_is_a_call_that_shows_what_came_of_its_cues(tmp_path: Path) -> None:
    noisy = Scenario("noisy", "am_puck", (Cue(0.4, noise="door", level_db=-60),), reply="speak")
    late = Scenario("late", "am_puck", (Cue(3.0, noise="cough"),), reply="speak")
    config = Config(server=ServerConfig(port=0), call=CallConfig(record_turns=str(tmp_path)))
    async with serving(NamedEngines(), config) as server:
        take, problem = await asyncio.gather(
            *(
                perform(server.realtime, "", Kind.NOISE, Book((scenario,)), scenario)
                for scenario in (noisy, late)
            ),
            return_exceptions=True,
        )
        await server.empty()
    assert isinstance(problem, VoidError), problem
    assert "the reply was over after" in str(problem)
    assert not isinstance(take, BaseException), take
    assert (take.status(take.reply), take.written(take.reply)) == (
        "completed", "you said speak. that is all."
    )  # fmt: skip
    (cue,) = take.cues
    reply = take.played[0].start / RATE
    assert 0.35 < cue.start - reply < 0.6
    assert cue.end < len(take.microphone if take.microphone is not None else "") / RATE + 0.1
    (probe,) = probes(take)
    assert probe.values == {"survived": 1.0, "pause": 0.0}
    log = tmp_path / f"{take.session}.jsonl"
    assert abs(began(log) - take.began) < 0.5, "one clock for both"
    assert [type(step.event).__name__ for step in replay(log)].count("ReplyFinished") == 1
