"""Speech begins, speech pauses: from the probability of each frame to two events.

Pure, and its only clock is the count of samples. Silero's own rule: speech once the probability
reaches `threshold`, silence once it falls under `threshold` - 0.15, nothing new between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from speech.interfaces import FRAME, RATE

_HYSTERESIS = 0.15
_PER_MS = RATE // 1000


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller speaks, for the first time or again after a pause."""

    at: int
    """Sample at which the speech began."""
    from_sample: int
    """Sample from which a recogniser should listen: earlier, for soft consonants."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The caller has been silent for `pause_ms`."""

    at: int
    """Sample at which the speech ended."""
    now: int
    """Sample at which that was noticed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When sound is speech, and when silence is a pause."""

    threshold: float = 0.5
    """P(speech) of a frame from which it is speech, in (0, 1)."""
    min_speech_ms: int = 96
    """Speech shorter than this, in all, is a click."""
    pause_ms: int = 200
    """Silence that makes a pause."""
    prefix_ms: int = 300
    """Audio to listen to from before the speech began."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            msg = f"expected a threshold between 0 and 1, got {self.threshold}"
            raise ValueError(msg)
        shortest = min(self.min_speech_ms, self.pause_ms, self.prefix_ms)
        if shortest < 0:
            msg = f"expected lengths of 0 ms or more, got {shortest}"
            raise ValueError(msg)


class Segmenter:
    """The speech of one call. Frames go in one after the other, without gaps."""

    def __init__(
        self,
        threshold: float = 0.5,
        min_speech_ms: int = 96,
        pause_ms: int = 200,
        prefix_ms: int = 300,
    ) -> None:
        self.limits = Limits(threshold, min_speech_ms, pause_ms, prefix_ms)
        self.position = 0
        """Samples seen."""
        self.speaking = False
        self._onset: int | None = None
        """Where speech began that is not yet long enough, or that goes on."""
        self._voiced = 0
        """Samples of speech since the onset."""
        self._last = 0
        """End of the last speech frame."""

    @property
    def silence(self) -> int:
        """Samples since the last speech; while speaking, a pause may be beginning."""
        return self.position - self._last

    @property
    def suspects(self) -> bool:
        """Whether the latest frame may be the first of speech, which is not yet long enough."""
        return not self.speaking and self._onset == self.position - FRAME

    def configure(
        self,
        *,
        threshold: float | None = None,
        min_speech_ms: int | None = None,
        pause_ms: int | None = None,
        prefix_ms: int | None = None,
    ) -> None:
        """Change limits during a call; what is not given stays. Raises ValueError."""
        given = {
            "threshold": threshold,
            "min_speech_ms": min_speech_ms,
            "pause_ms": pause_ms,
            "prefix_ms": prefix_ms,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        self.limits = replace(self.limits, **changed)  # type: ignore[arg-type]  # checked by name

    def restart(self) -> None:
        """Forget that speech goes on: what follows of it starts anew, as speech of its own."""
        self.speaking, self._onset = False, None

    def push(self, probability: float) -> SpeechStarted | SpeechPaused | None:
        """One frame of FRAME samples; at most one event comes of it."""
        start = self.position
        self.position += FRAME
        if probability >= self.limits.threshold:
            return self._speech(start)
        if self._onset is None:
            return None
        if probability >= self.limits.threshold - _HYSTERESIS:
            # In doubt, speech that goes on goes on; speech that is not yet sure gains nothing.
            if self.speaking:
                self._last = self.position
            return None
        return self._silence()

    def _speech(self, start: int) -> SpeechStarted | None:
        if self._onset is None:
            self._onset, self._voiced = start, 0
        self._voiced += FRAME
        self._last = self.position
        if self.speaking or self._voiced < self.limits.min_speech_ms * _PER_MS:
            return None
        self.speaking = True
        return SpeechStarted(
            at=self._onset, from_sample=max(0, self._onset - self.limits.prefix_ms * _PER_MS)
        )

    def _silence(self) -> SpeechPaused | None:
        if self.position - self._last < self.limits.pause_ms * _PER_MS:
            return None
        self._onset = None
        if not self.speaking:
            return None
        self.speaking = False
        return SpeechPaused(at=self._last, now=self.position)
