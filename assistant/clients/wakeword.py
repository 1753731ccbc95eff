"""Is the wake word being said? openWakeWord's models, which run only while somebody speaks."""

from __future__ import annotations

from collections import deque

import numpy as np
from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

from assistant.clients.line import RATE, CallError
from speech.audio import Resampler, to_float, to_pcm16
from speech.interfaces import RATE as MODEL_RATE
from speech.interfaces import Audio, Pcm

THRESHOLD = 0.7
"""The model's probability from which the word was said (docs/kiosk.md has the measurements)."""
_LASTING = 4
"""Chunks in a row in which it was: "hey, John is" comes to 0.99 too, but for three at most in 57
of 60 tries, the word itself in each of four voices for four and more, also spoken 15 % faster."""
_CHUNK = MODEL_RATE * 80 // 1000
"""Samples that the models want at once."""
_SPEECH = 0.3
"""P(speech) from which somebody may be speaking; low, since work costs less than a
missed word."""
_LEAD = 12
"""Chunks (a second) that are heard belatedly once somebody speaks."""
_HANG = 12
"""Chunks for which the models run on after speech."""


class WakeWord:
    """One word, spoken to one microphone."""

    def __init__(self, name: str, threshold: float = THRESHOLD) -> None:
        """`name` is one of names(), spaces for its underscores allowed. Raises CallError."""
        try:
            model = Model(name.strip().lower().replace(" ", "_").replace("-", "_"))
        except ValueError:
            raise CallError(f"expected a wake word of {', '.join(names())}, got {name!r}") from None
        self._threshold = threshold
        self._features = OpenWakeWordFeatures.from_builtin()
        self._word = OpenWakeWord.from_builtin(model)
        self._resampler = Resampler(RATE, MODEL_RATE)
        self._rest: Audio = np.zeros(0, np.float32)
        self._lead: deque[Pcm] = deque(maxlen=_LEAD)
        self._runs = 0
        """Chunks for which the models still run."""
        self._likely = 0
        """Chunks in a row in which the word was likely."""
        self._speech = 0.0
        """The highest P(speech) within the chunk that is being filled."""

    def hear(self, pcm: Pcm, speech: float) -> bool:
        """The microphone's next samples, int16 at the line's RATE, and P(speech) of them: was the
        word said just now?"""
        self._rest = np.concatenate([self._rest, self._resampler.push(to_float(pcm))])
        self._speech = max(self._speech, speech)
        said = False
        while len(self._rest) >= _CHUNK:
            chunk, self._rest = to_pcm16(self._rest[:_CHUNK]), self._rest[_CHUNK:]
            self._runs = _HANG if self._speech >= _SPEECH else self._runs - 1
            self._speech = 0.0
            self._lead.append(chunk)
            while self._runs > 0 and self._lead:
                said = self._said(self._lead.popleft()) or said
        if said:
            self.forget()
        return said

    def forget(self) -> None:
        """What was said so far belongs to no word that is still to come."""
        self._word.reset()
        self._lead.clear()
        self._runs = self._likely = 0

    def _said(self, chunk: Pcm) -> bool:
        said = False
        for embedding in self._features.process_streaming(chunk.tobytes()):
            for probability in self._word.process_streaming(embedding):
                self._likely = self._likely + 1 if probability >= self._threshold else 0
                said = said or self._likely >= _LASTING
        return said


def names() -> list[str]:
    """The words that there are models for."""
    return [model.value for model in Model]
