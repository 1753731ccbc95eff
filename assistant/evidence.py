"""What the turn manager keeps in mind: the caller's turn under way, and how this caller pauses."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from assistant.endpointing import Pause, probability, profile, silence_needed
from assistant.floor import (
    EndpointScored,
    Heard,
    Policy,
    Rated,
    SpeechPaused,
    SpeechStarted,
    Transcribed,
)
from assistant.interruption import Candidate, asks, same_words, stops
from speech.prosody import Prosody

_PAUSES_KEPT = _TURNS_KEPT = 4
_TOO_SOON = 1.0
"""Seconds of a reply under which a caller who goes on over it had not been done."""
_A_WORD_OR_TWO, _STOPPED = 0.8, 0.7
"""Seconds of speech that only stop a reply, and of silence after it that end the turn."""
_HOPED = 0.95
"""How complete speech that goes on is taken to sound, where its words may be all of the turn."""


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
    nearest: float = math.inf
    """The least that any of its stretches lay below, as far as they are over."""
    silent_since: float | None = None
    """None while the caller speaks."""
    doubtful_until: float = 0.0
    """In a pause: by then it is known whether what was heard is the caller's going on."""
    text: str | None = None
    """The words at the latest pause; None until they are recognised."""
    confidence: float = 1.0
    """Of those words."""
    echoed: float = 0.0
    heard: Heard | None = None
    """The words while speech goes on."""
    settled: bool = False
    """They may be all: the voice has fallen silent, or the decode before had the same."""
    completeness: float | None = None
    prosody: Prosody | None = None
    rated: Rated | None = None
    """The latest words that the language model has judged."""

    def started(self, event: SpeechStarted, now: float) -> None:
        """Speech goes on: what was asked about its pause is void."""
        self.onset, self.below = now - event.speech, event.below
        self.silent_since = self.text = self.completeness = self.prosody = None

    def paused(self, event: SpeechPaused, now: float) -> None:
        self.silent_since, self.below = now - event.silence, event.below
        self.nearest = min(self.nearest, event.below)
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
        before = self.words
        self.heard, self.below = event, event.below
        self.settled = event.quiet or (bool(before) and same_words(before, self.words))
        return self.words

    def seconds(self, now: float) -> float:
        """Of speech so far."""
        return self.speech + (now - self.onset if self.silent_since is None else 0.0)

    @property
    def goes_on(self) -> bool:
        """Whether it began over a reply that was just beginning, not to ask for anything or to stop
        it: the caller had only drawn breath."""
        words = self.text or self.words
        return 0 < self.age < _TOO_SOON and not (asks(words) or stops(words))

    def pause(self, asked: str, own_pauses: tuple[float, ...]) -> Pause:
        """The turn as it stands at its latest pause; `asked` is what the assistant said last."""
        ends = self.ends(self.text or "")
        return Pause(
            self.completeness, self.text, self.speech, self.prosody, asked, own_pauses, ends
        )

    def ends(self, words: str) -> float | None:
        """P(a sentence ends after `words`), where it is known for just these."""
        known = self.rated is not None and same_words(self.rated.text, words)
        return self.rated.ends if known and self.rated else None

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
            speech=self.seconds(now),
            age=self.age,
            confidence=heard.confidence,
            echoed=heard.echoed,
            below=self.below,
            answers=answers,
        )


@dataclass(slots=True)
class Habits:
    """What of the call so far tells how long a pause means the end of a turn."""

    asked: str = ""
    """What the assistant said last; empty when it was broken off."""
    rated: bool = False
    """The language model tells where sentences end."""
    own_pauses: deque[float] = field(default_factory=lambda: deque(maxlen=_PAUSES_KEPT))
    """Seconds for which the caller paused and then went on."""
    went_on: deque[bool] = field(default_factory=lambda: deque(maxlen=_TURNS_KEPT))
    """Of the latest turns: whether they went on over the answer to the one before."""

    @property
    def asked_a_question(self) -> bool:
        return self.asked.rstrip().endswith(("?", "？"))

    def paused(self, seconds: float) -> None:
        """The caller went on after this pause."""
        self.own_pauses.append(max(0.0, seconds))

    def committed(self, turn: Turn) -> None:
        self.went_on.append(turn.goes_on)

    def silence_needed(self, turn: Turn, policy: Policy) -> float:
        """Seconds of silence that end the turn: after an answer that came too soon twice as many,
        after two three times, as people hold back who have cut somebody off."""
        if not policy.profile:
            return policy.silence
        waiting = profile(policy.profile)
        needed = silence_needed(self._pause(turn), waiting) * (1 + turn.goes_on + sum(self.went_on))
        needed = min(needed, waiting.most)
        # Who only said "stop" waits for an answer; how it sounds says nothing about that.
        stopped = turn.age > 0 and stops(turn.text or "") and turn.speech < _A_WORD_OR_TWO
        return min(needed, _STOPPED) if stopped else needed

    def may_be_whole(self, turn: Turn, words: str, now: float, policy: Policy) -> bool:
        """Whether the words of speech that goes on would soon end the turn if it fell silent."""
        needed = policy.silence
        if policy.profile:
            speech, own = turn.seconds(now), tuple(self.own_pauses)
            hoped = Pause(_HOPED, words, speech, None, self.asked, own, turn.ends(words))
            needed = silence_needed(hoped, profile(policy.profile))
        return needed <= policy.guess_within

    def why_over(self, turn: Turn, now: float) -> str:
        if turn.silent_since is None:
            return "the client commits"
        silence = now - turn.silent_since
        over = probability(self._pause(turn), silence)
        return f"P(over) {over:.2f} after {silence:.2f} s of silence"

    def _pause(self, turn: Turn) -> Pause:
        return turn.pause(self.asked, tuple(self.own_pauses))


def most_silence(policy: Policy) -> float:
    """Seconds of silence that end any turn."""
    return profile(policy.profile).most if policy.profile else policy.silence
