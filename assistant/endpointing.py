"""stub until the fitted one lands"""

from __future__ import annotations
import math, re
from dataclasses import dataclass
from speech.prosody import Prosody


@dataclass(frozen=True, slots=True)
class Pause:
    completeness: float | None
    text: str | None
    speech: float
    prosody: Prosody | None = None
    asked: str = ""
    own_pauses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    bias: float
    least: float
    most: float


PROFILES = {
    "quick": Profile(1.0, 0.15, 2.0),
    "normal": Profile(0.0, 0.2, 3.0),
    "patient": Profile(-1.5, 0.4, 5.0),
}
_OPEN = set(
    "and but or so because the a an to of for in on at with um uh like my your i we 因为 然后 和 但是 的 就是".split()
)


def _logit(pause: Pause) -> float:
    z = 0.0
    if pause.completeness is not None:
        p = min(max(pause.completeness, 1e-3), 1 - 1e-3)
        z += 0.6 * math.log(p / (1 - p))
    if pause.text is not None:
        text = pause.text.strip()
        words = re.findall(r"[\w']+", text.lower())
        if text[-1:] in "?？":
            z += 2.5
        elif text[-1:] in ".!。！":
            z += 1.5
        else:
            z -= 2
        if text.endswith("..."):
            z -= 4
        if words and words[-1] in _OPEN:
            z -= 4
    return z


def probability(pause: Pause, silence: float) -> float:
    z = _logit(pause) + 2.0 * math.log(max(silence, 0.05) / 0.5)
    return 1 / (1 + math.exp(-z))


def silence_needed(pause: Pause, profile: Profile) -> float:
    z = _logit(pause) + profile.bias
    t = 0.5 * math.exp((1.0 - z) / 2.0)
    return min(max(t, profile.least), profile.most)
