"""From takes to figures: one probe for each cue, and the table's rows over them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from duplex.scenario import Kind
from duplex.take import COMMITTED, Sounded, Take

_EXPECTED_DB = -15.0
"""Noises up to this level must change nothing; louder ones are reported beside them."""
_BLINK = 1.5
"""Seconds after a backchannel in which a pause of the reply is its doing."""


@dataclass(slots=True)
class Probe:
    """What one cue showed; a `value` of 0 or 1 says whether something held."""

    kind: Kind
    scenario: str
    cue: str
    values: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """What they were counted from, to be read where they surprise."""


def probes(take: Take) -> list[Probe]:
    """Everything that needs no recogniser."""
    if take.kind is Kind.ECHO:
        return [_probe(take, "echo", _undisturbed(take, 0.0))]
    return [
        _probe(take, cue.cue.say or cue.cue.noise or cue.cue.other, _values(take, cue))
        for cue in take.cues
    ]


def _probe(take: Take, cue: str, values: dict[str, float]) -> Probe:
    return Probe(take.kind, take.scenario.name, cue, values)


def _values(take: Take, cue: Sounded) -> dict[str, float]:
    match take.kind:
        case Kind.FINISHED:
            return {**_answer(take, cue), "cut_in": float(_cut_in(take, cue.start, cue.end))}
        case Kind.PAUSES | Kind.PATIENT:
            return {**_answer(take, cue), **_pauses(take, cue)}
        case Kind.INTERRUPTIONS | Kind.STOPS | Kind.OVER_ECHO:
            return {**_answer(take, cue), **_stop(take, cue)}
        case Kind.NOISE if cue.cue.level_db > _EXPECTED_DB:
            return {f"loud_{name}": value for name, value in _undisturbed(take, cue.start).items()}
    return {**_undisturbed(take, cue.start), "pause": _pause(take, cue)}


# --- turns ------------------------------------------------------------------------------------


def _answer(take: Take, cue: Sounded) -> dict[str, float]:
    """Whether a reply to the cue came, and how long after its last sample."""
    committed = take.of(COMMITTED, cue.end)
    later = take.delivered(after=committed[0][0]) if committed else []
    values = {"answered": float(bool(later))}
    return values | ({"latency": later[0] - cue.end} if later else {})


def _pauses(take: Take, cue: Sounded) -> dict[str, float]:
    """How many of the cue's pauses the assistant took for the end: each reaches from the end of
    one stretch of speech to the end of the next."""
    ends = [begin for begin, _ in cue.pauses[1:]] + [cue.end]
    taken = [
        _cut_in(take, cue.start if number == 0 else begin, end)
        for number, ((begin, _), end) in enumerate(zip(cue.pauses, ends, strict=True))
    ]
    return {"pauses": float(len(taken)), "cut_ins": float(sum(taken))}


def _cut_in(take: Take, begin: float, end: float) -> bool:
    """Whether a turn was committed or a reply delivered in between."""
    times = [at for at, _ in take.of(COMMITTED)] + take.delivered()
    return any(begin <= at < end for at in times)


def _stop(take: Take, cue: Sounded) -> dict[str, float]:
    """Whether the first reply stopped for the caller, and how long after the onset."""
    cut = any(item == take.reply for _, item in take.cuts)
    if not cut and take.status(take.reply) != "cancelled":
        return {"stopped": 0.0}
    if take.last_played(take.reply) <= cue.start:
        return {"stopped": 0.0}  # something else had stopped it before
    sent = max(take.delivered(take.reply), default=0.0)
    return {
        "stopped": 1.0,
        "stop_delivered": max(0.0, sent - cue.start),
        "stop_played": max(0.0, take.last_played(take.reply) - cue.start),
    }


# --- what must change nothing -------------------------------------------------------------------


def _undisturbed(take: Take, since: float) -> dict[str, float]:
    """Whether no turn came of it and no reply was cut off."""
    turn = bool(take.of(COMMITTED, since))
    cut = any(at >= since for at, _ in take.cuts) or take.status(take.reply) == "cancelled"
    return {"survived": float(not turn and not cut)}


def _pause(take: Take, cue: Sounded) -> float:
    """The longest silence of the reply that the caller hears around the cue."""
    around = [
        seconds for at, seconds in take.gaps if cue.start < at + seconds and at < cue.end + _BLINK
    ]
    return max(around, default=0.0)


# --- the table ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    kinds: tuple[Kind, ...]
    name: str
    value: str
    figure: Literal["median", "p95", "worst", "share"]
    limit: float | None = None
    """None: reported only."""
    least: bool = False
    """The limit is the least, not the most."""
    of: str = ""
    """The share is of this value's sum, not of the probes."""


@dataclass(frozen=True, slots=True)
class Row:
    metric: Metric
    count: int
    figure: float | None
    """None: nothing to measure it by."""

    @property
    def holds(self) -> bool | None:
        """None where there is no limit or no figure."""
        limit = self.metric.limit
        if limit is None or self.figure is None:
            return None
        return self.figure >= limit if self.metric.least else self.figure <= limit


_F, _I, _S, _B, _O = (
    (Kind.FINISHED,), (Kind.INTERRUPTIONS,), (Kind.STOPS,), (Kind.BACKCHANNELS,), (Kind.OVER_ECHO,)
)  # fmt: skip
_INTERRUPT = (Kind.INTERRUPTIONS, Kind.STOPS, Kind.OVER_ECHO)
_SPEAK = tuple(kind for kind in Kind if kind.takes_floor)
METRICS = (
    Metric(_F, "answered", "answered", "share"),
    Metric(_F, "voice to voice, s", "latency", "median", 0.55),
    Metric(_F, "voice to voice, s", "latency", "p95", 1.1),
    Metric(_F, "cut in before the end", "cut_in", "share"),
    Metric((Kind.PAUSES,), "cut in at a pause", "cut_ins", "share", 0.05, of="pauses"),
    Metric((Kind.PAUSES,), "voice to voice, s", "latency", "median"),
    Metric((Kind.PATIENT,), "cut in at a pause", "cut_ins", "share", 0.02, of="pauses"),
    Metric((Kind.PATIENT,), "voice to voice, s", "latency", "median"),
    Metric(_I, "the reply stops", "stopped", "share", 0.98, least=True),
    Metric(_I, "to last sample played, s", "stop_played", "median", 0.45),
    Metric(_I, "to last sample delivered, s", "stop_delivered", "median", 0.45),
    Metric(_I, "the words were right", "right", "share"),
    Metric(_I, "a new reply followed", "answered", "share"),
    Metric(_S, "the reply stops", "stopped", "share", 0.98, least=True),
    Metric(_S, "to last sample played, s", "stop_played", "median", 0.35),
    Metric(_S, "to last sample delivered, s", "stop_delivered", "median", 0.35),
    Metric(_S, "the words were right", "right", "share"),
    Metric(_B, "the reply survives", "survived", "share", 0.95, least=True),
    Metric(_B, "longest pause heard, s", "pause", "worst", 0.4),
    Metric(_B, "every word once", "once", "share", 1.0, least=True),
    Metric((Kind.NOISE,), "changes nothing", "survived", "share", 1.0, least=True),
    Metric((Kind.NOISE,), "longest pause heard, s", "pause", "worst"),
    Metric((Kind.NOISE,), "changes nothing, louder", "loud_survived", "share"),
    Metric((Kind.ECHO,), "changes nothing", "survived", "share", 1.0, least=True),
    Metric(_O, "the reply stops", "stopped", "share", 0.9, least=True),
    Metric(_O, "to last sample played, s", "stop_played", "median"),
    Metric(_O, "the words were right", "right", "share"),
    Metric((Kind.SIDE_TALK,), "changes nothing", "survived", "share"),
    Metric(_INTERRUPT, "heard text, words wrong", "heard_error", "median", 1.0),
    Metric(_INTERRUPT, "heard text, words wrong", "heard_error", "worst", 4.0),
    Metric(_SPEAK, "word errors of callers", "errors", "share", of="words"),
    Metric(_SPEAK, "  of the same recognised alone", "errors_alone", "share", of="words"),
    Metric(_SPEAK, "  difference", "errors_more", "share", 0.03, of="words"),
)


def rows(found: Iterable[Probe], metrics: Iterable[Metric] = METRICS) -> list[Row]:
    """One row for each metric whose kind was performed."""
    found = list(found)
    made = []
    for metric in metrics:
        chosen = [probe.values for probe in found if probe.kind in metric.kinds]
        if chosen:
            made.append(_row(metric, [values for values in chosen if metric.value in values]))
    return made


def _row(metric: Metric, chosen: list[dict[str, float]]) -> Row:
    values = [of[metric.value] for of in chosen]
    if not values:
        return Row(metric, 0, None)
    if metric.figure == "share":
        count = round(sum(of[metric.of] for of in chosen)) if metric.of else len(values)
        return Row(metric, count, sum(values) / count if count else None)
    share = {"median": 50, "p95": 95, "worst": 100}[metric.figure]
    return Row(metric, len(values), float(np.percentile(values, share)))
