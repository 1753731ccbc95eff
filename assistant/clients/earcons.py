"""The kiosk's short signals, synthesised: plucked strings that rise, fall or stay.

Not pure tones: from those the echo canceller learns a wrong echo path, and the first words of the
next reply come through (residual 34 dB instead of 13 in a simulated room). A string's many partials
teach it the right one before the first reply.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from assistant.clients.kiosk_states import Act
from assistant.clients.line import RATE
from speech.interfaces import Pcm

_LEVEL = 0.08
"""Peak, full scale being 1: heard, and nobody is startled."""
_TONE_S, _ATTACK_S, _DECAY_S = 0.13, 0.003, 0.04
_HIGHEST = 11_000
"""Hz of the highest partial."""
_STIFFNESS = 0.0007
"""How far the partials of a stiff string lie above whole multiples, for each squared number."""
_TONES = {
    Act.CHIME_AWAKE: (659.3, 987.8),  # E5, B5
    Act.CHIME_ASLEEP: (987.8, 659.3),
    Act.CHIME_FAILED: (329.6, 329.6),
}
"""Hz."""


@cache
def earcon(act: Act) -> Pcm | None:
    """Its signal, int16 at RATE, shape (n,); None for an act without one."""
    if act not in _TONES:
        return None
    seconds = np.arange(round(_TONE_S * RATE)) / RATE
    envelope = np.minimum(1, seconds / _ATTACK_S) * np.exp(-seconds / _DECAY_S)
    sound = np.concatenate([envelope * _string(pitch, seconds) for pitch in _TONES[act]])
    pcm: Pcm = (sound / np.abs(sound).max() * _LEVEL * 32767).astype(np.int16)
    return pcm


def _string(pitch: float, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its partials, the higher the weaker, at these times."""
    numbers = np.arange(1, int(_HIGHEST / pitch))[:, None]
    pitches = pitch * numbers * (1 + _STIFFNESS * numbers**2)
    partials: NDArray[np.float64] = np.sin(2 * np.pi * pitches * seconds) / numbers
    whole: NDArray[np.float64] = np.sum(partials, axis=0)
    return whole
