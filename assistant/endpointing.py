"""Is the caller's turn over? One calibrated answer from everything that is known at a pause.

Pure. A logistic model in which the silence so far is one signal among the others,

    P(over | signals, still silent after s) = 1 / (1 + exp(-(w . x + v log s)))

so that the silence at which P reaches a profile's `sure` has a closed form. Its weights are fitted
by scripts/fit_endpointing.py and lie in endpointing.json; docs/endpointing.md says how, on what,
and what each signal is worth.

A caller minds a second's wait more than a tenth's, and P alone does not know that. So the silence
is measured from one second: where that is enough, less is enough by the power `steep`, where it
is not, more is needed by the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from assistant.wording import wording
from speech.prosody import Prosody

_USUAL_PAUSE = 0.6
"""Seconds; what a caller's own pauses are measured against, and counted as two of them."""
_BY_LISTS = ("hanging", "leaning", "wanting", "helpless", "listing")
"""Signals of the words that the language model is a better judge of."""
_SHORTEST = 0.05
"""Seconds of silence under which none is told from none."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How patient the assistant is."""

    sure: float
    """P(the turn is over), in (0, 1), that makes one second of silence enough."""
    least: float
    """Seconds of silence that it waits however sure it is."""
    most: float
    """Seconds of silence after which it speaks however unsure it is."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What is known at a pause; None where it is not known yet."""

    completeness: float | None
    """The endpointer's P(the turn is over)."""
    text: str | None
    """The turn's words so far, with the recogniser's case and punctuation."""
    speech: float
    """Seconds of speech in the turn so far."""
    prosody: Prosody | None
    asked: str = ""
    """What the assistant last said, as far as it was heard."""
    own_pauses: tuple[float, ...] = ()
    """This caller's latest pauses inside turns, in seconds."""
    ends: float | None = None
    """P(a sentence ends after the last word), as the language model would go on."""


class Model(msgspec.Struct, frozen=True):
    """The fitted file."""

    silence: float
    """Weight of the logarithm of the silence in seconds; above 0."""
    steep: float
    """Power of the silence needed, in seconds, beyond what the probability alone asks for."""
    weights: dict[str, float]
    """Of each signal; one that is missing weighs nothing."""
    profiles: dict[str, Profile] = field(default_factory=dict)


@cache
def shipped() -> Model:
    """The model in endpointing.json."""
    data = Path(__file__).with_name("endpointing.json").read_bytes()
    return msgspec.json.decode(data, type=Model)


def profile(name: str) -> Profile:
    """`quick`, `normal` or `patient`. Raises KeyError."""
    return shipped().profiles[name]


def probability(pause: Pause, silence: float) -> float:
    """P(the turn is over) when the caller is still silent `silence` seconds after the end of
    speech."""
    model = shipped()
    odds = evidence(pause, model) + model.silence * math.log(max(silence, _SHORTEST))
    return 1 / (1 + math.exp(-min(max(odds, -30), 30)))


def silence_needed(pause: Pause, profile: Profile) -> float:
    """Seconds of silence, from the end of speech, after which the turn is over."""
    model = shipped()
    wanted = math.log(profile.sure / (1 - profile.sure))
    logarithm = model.steep * (wanted - evidence(pause, model)) / model.silence
    return min(max(math.exp(min(max(logarithm, -9), 9)), profile.least), profile.most)


def evidence(pause: Pause, model: Model) -> float:
    """Log odds that the turn is over, but for the silence."""
    weights = model.weights
    return sum(weights.get(name, 0.0) * value for name, value in signals(pause).items())


def signals(pause: Pause) -> dict[str, float]:
    """Each signal's value by name, about [-1, 1], and 0 where nothing is known."""
    unread = float(pause.text is None)
    heard = 0.0 if pause.completeness is None else _log_odds(pause.completeness)
    found = wording(pause.text or "", pause.asked) | {
        "always": 1.0,
        "complete": heard,
        "unheard": float(pause.completeness is None),
        "own": _own(pause.own_pauses),
        # Without words the sound has to say it all, and its length how much was said.
        "unread": unread,
        "complete_alone": heard * unread,
        "speech_alone": _limited(math.log(max(pause.speech, 0.1) / 2) / 2) * unread,
    }
    found["empty"] -= unread
    found["unrated"] = float(pause.ends is None)
    found["ends"] = 0.0
    if pause.ends is not None:
        # Who reads the whole sentence knows better than lists of words that want another.
        found |= dict.fromkeys(_BY_LISTS, 0.0) | {"ends": _magnitude(pause.ends)}
    if pause.prosody:
        found |= {
            "drop": _limited((pause.prosody.drop - 4) / 5),
            "coda": _limited((pause.prosody.coda - 0.15) / 0.2),
        }
    return found


def _own(pauses: tuple[float, ...]) -> float:
    """How much longer than usual this caller's pauses are; the usual counts for two of them."""
    logarithms = [math.log(max(pause, _SHORTEST) / _USUAL_PAUSE) for pause in pauses]
    return _limited(sum(logarithms) / (len(logarithms) + 2))


def _log_odds(probability: float) -> float:
    """In [-1, 1], as beyond 1 and 99 % the endpointer is not to be believed."""
    sane = min(max(probability, 0.01), 0.99)
    return math.log(sane / (1 - sane)) / math.log(99)


def _magnitude(probability: float) -> float:
    """In [-1, 1], for a thousandth and less to 1: how rare the end of a sentence is here."""
    return _limited(1 + math.log10(max(probability, 1e-3)) / 1.5)


def _limited(value: float) -> float:
    return min(max(value, -1.0), 1.0)
