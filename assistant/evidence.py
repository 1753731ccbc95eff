"""What is known of the caller's turn under way: what the turn manager keeps in mind about it."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.endpointing import Pause
from assistant.floor import EndpointScored, Heard, SpeechPaused, SpeechStarted, Transcribed
from assistant.interruption import Candidate
from speech.prosody import Prosody


@dataclass(slots=True)
class Turn:
    """Events add to it; what is decided reads it as a Pause or as a Candidate."""

    number: int
    onset: float
    """When its latest stretch of speech began."""
    age: float = 0.0
    """Seconds for which a reply had been live when it began; 0 without one."""
    announced: bool = False
    speech: float = 0.0
    """Seconds of speech up to the latest pause."""
    below: float = 0.0
    """dB by which its latest stretch lies under the caller's usual level."""
    silent_since: float | None = None
    """None while the caller speaks."""
    text: str | None = None
    """The words at the latest pause; None until they are recognised."""
    confidence: float = 1.0
    """Of those words."""
    echoed: float = 0.0
    heard: Heard | None = None
    """The words while speech goes on."""
    completeness: float | None = None
    prosody: Prosody | None = None

    def started(self, event: SpeechStarted, now: float) -> None:
        """Speech goes on: what was asked about its pause is void."""
        self.onset, self.below = now - event.speech, event.below
        self.silent_since = self.text = self.completeness = self.prosody = None

    def paused(self, event: SpeechPaused, now: float) -> None:
        self.silent_since, self.below = now - event.silence, event.below
        self.speech += event.speech
        self.text = self.completeness = self.prosody = None

    def scored(self, event: EndpointScored) -> None:
        self.completeness, self.prosody = event.probability, event.prosody

    def transcribed(self, event: Transcribed) -> None:
        self.text, self.confidence, self.echoed = event.text, event.confidence, event.echoed

    @property
    def words(self) -> str:
        """The likeliest words of the speech so far."""
        return self.heard.likely or self.heard.text if self.heard else ""

    def said(self, event: Heard) -> str:
        """Take in words of speech that goes on; the likeliest text so far."""
        self.heard, self.below = event, event.below
        return self.words

    def pause(self, asked: str, own_pauses: tuple[float, ...]) -> Pause:
        """The turn as it stands at its latest pause; `asked` is what the assistant said last."""
        return Pause(self.completeness, self.text, self.speech, self.prosody, asked, own_pauses)

    def candidate(self, now: float, *, answers: bool) -> Candidate:
        """The turn as speech over a reply that may not want the floor."""
        if self.silent_since is not None and self.text is not None:
            return Candidate(
                self.text, True, self.speech, self.age, self.confidence, self.echoed, self.below,
                answers,
            )  # fmt: skip
        heard = self.heard or Heard("")
        return Candidate(
            words=self.words if self.heard else None,
            final=False,
            speech=self.speech if self.silent_since is not None else now - self.onset,
            age=self.age,
            confidence=heard.confidence,
            echoed=heard.echoed,
            below=self.below,
            answers=answers,
        )
