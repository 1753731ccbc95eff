"""The kiosk's short signals, synthesised: tones that rise, fall or stay."""

from __future__ import annotations

from functools import cache

import numpy as np

from assistant.clients.kiosk_states import Act
from assistant.clients.line import RATE
from speech.interfaces import Pcm

_LEVEL = 0.08
"""Peak, full scale being 1: heard, and nobody is startled."""
_TONE_S, _FADE_S = 0.11, 0.02
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
    count, fade = round(_TONE_S * RATE), round(_FADE_S * RATE)
    envelope = np.ones(count)
    envelope[:fade] = 0.5 - 0.5 * np.cos(np.pi * np.arange(fade) / fade)
    envelope[-fade:] = envelope[:fade][::-1]
    seconds = np.arange(count) / RATE
    tones = [envelope * np.sin(2 * np.pi * pitch * seconds) for pitch in _TONES[act]]
    pcm: Pcm = (np.concatenate(tones) * _LEVEL * 32767).astype(np.int16)
    return pcm
