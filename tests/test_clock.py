"""A call's own time, and what missing audio does to it."""

from __future__ import annotations

import asyncio

import pytest

from assistant.arrival import Arrival
from assistant.clock import CallClock
from tests.virtual import run


def test_no_time_passes_while_it_stands_still() -> None:
    async def whole() -> None:
        clock, rung = CallClock(), []
        clock.call_at(1.0, lambda: rung.append("set while it ran"))
        cancelled = clock.call_at(1.5, lambda: rung.append("cancelled"))
        await asyncio.sleep(0.4)
        clock.stop()
        clock.call_at(0.6, rung.append, "set while it stood still")
        await asyncio.sleep(10)
        assert (clock.time(), clock.behind, rung) == (0.4, 10, [])
        cancelled.cancel()
        clock.go()
        await asyncio.sleep(0.3)
        assert rung == ["set while it stood still"]
        await asyncio.sleep(2)
        assert rung == ["set while it stood still", "set while it ran"]
        assert clock.time() == pytest.approx(2.7)

    run(whole())


def test_an_alarm_never_rings_before_its_time() -> None:
    """Whoever is woken too early would ask to be woken again at once, for ever."""

    async def whole() -> None:
        clock = CallClock()
        for _ in range(200):
            await asyncio.sleep(0.1)
            clock.stop()
            await asyncio.sleep(1 / 3)
            clock.go()
            due, rang = clock.time() + 0.07, asyncio.Event()
            clock.call_at(due, rang.set)
            await rang.wait()
            assert clock.time() >= due

    run(whole())


@pytest.mark.parametrize("patient", [False, True])
def test_missing_audio_is_silence_once_it_cannot_be_the_network(patient: bool) -> None:
    async def whole() -> None:
        clock = CallClock()
        arrival = Arrival(clock, patient=patient)
        arrival.came()
        await asyncio.sleep(0.6)
        assert arrival.missing() is not patient
        before = clock.time()
        await asyncio.sleep(1.0)
        assert clock.time() - before == (0 if patient else 1)
        await asyncio.sleep(1.0)
        assert clock.time() > before
        assert arrival.missing()
        assert not arrival.late()

    run(whole())


def test_audio_that_comes_late_was_no_silence() -> None:
    async def whole() -> None:
        clock = CallClock()
        arrival = Arrival(clock, patient=True)
        arrival.came()
        await asyncio.sleep(0.3)
        assert arrival.late()
        await asyncio.sleep(1.0)
        arrival.came()
        assert clock.time() == pytest.approx(0.3)
        await asyncio.sleep(0.1)
        assert not arrival.late()
        assert arrival.since(clock.time()) == pytest.approx(0.1)
        assert clock.time() == pytest.approx(0.4)

    run(whole())


def test_a_client_that_is_back_is_given_a_moment() -> None:
    async def whole() -> None:
        clock = CallClock()
        arrival = Arrival(clock, patient=True)
        arrival.came()
        arrival.dropped()
        await asyncio.sleep(20)
        arrival.resumed()
        await asyncio.sleep(0.4)
        assert clock.time() == 0
        assert arrival.since(clock.time()) == pytest.approx(20.4)
        await asyncio.sleep(0.2)
        assert clock.time() == pytest.approx(0.1)

    run(whole())


def test_audio_is_counted_whatever_its_rate() -> None:
    async def whole() -> None:
        arrival = Arrival(CallClock(), patient=True)
        arrival.count(480, 24_000)
        arrival.count(160, 8000)
        assert arrival.milliseconds == 40

    run(whole())
