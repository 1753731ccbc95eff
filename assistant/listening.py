"""The caller's side of one call: their audio as the turn manager's events, and as words."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assistant import floor
from assistant.arrival import Arrival
from assistant.clock import Alarm
from assistant.hearing import Ear, Words
from assistant.interruption import echoed
from speech.interfaces import RATE, Audio, SpeechError

if TYPE_CHECKING:
    from assistant.engines import Engines
    from assistant.session import Session

_log = logging.getLogger(__name__)

_JUST_SAID = 300
"""Characters of a reply that may still echo."""


class Spoken(NamedTuple):
    """A turn's end, for the latency of what answers it; zeros: nothing was spoken."""

    end: float = 0.0
    """When the caller fell silent, in the call's seconds."""
    recognition: float = 0.0
    """Seconds that the final recognition took."""


class Listener:
    """Tells its session's turn manager what the ear hears."""

    def __init__(self, session: Session, engines: Engines, arrival: Arrival) -> None:
        self._session, self._arrival, self._clock = session, arrival, session.clock
        self.ear = Ear(engines, session.config.turns, self._words)
        self.unanswered = Spoken()
        """The last committed turn, until a reply takes it."""
        self._spoken = Spoken()
        self._gap_check: Alarm | None = None

    async def hear(self, audio: Audio, rate: int) -> None:
        """The caller's next audio, shape (n,) at `rate` Hz. Waits while recognition is behind."""
        self._arrival.count(len(audio), rate)
        await self.ear.room()
        self._arrival.came()
        session = self._session
        if session.settings.turn_detection is None and not session.caller.item_id:
            self.ear.begin(at=self.ear.end)
            session.caller.open()
        self._listen(audio, rate)

    def committed(self) -> None:
        """The turn is over; what the caller says from here on is another."""
        self.unanswered, self._spoken = self._spoken, Spoken()

    def stop(self) -> None:
        """Nothing comes of silence any more."""
        self._arrival.close()
        if self._gap_check:
            self._gap_check.cancel()

    async def transcribe(self, pause: int) -> None:
        """All words of the turn, for the manager."""
        began = self._clock.time()
        try:
            words = await self.ear.finish()
        except SpeechError as error:
            self._session.report(error)
            self._session.turn(floor.RecognitionFailed(pause))
            return
        self._spoken = self._spoken._replace(recognition=self._clock.time() - began)
        text, confidence = words.stable, words.confidence
        echo = self._echoed(text, confidence)
        self._session.turn(floor.Transcribed(pause, text, confidence, echo))

    async def score(self, pause: int) -> None:
        """How the turn's end sounds, for the manager."""
        try:
            self._session.turn(floor.EndpointScored(pause, *await self.ear.ending()))
        except SpeechError as error:
            _log.error("this turn's end is judged by its silence alone: %s", error)

    def _listen(self, audio: Audio, rate: int) -> None:
        detect = self._session.settings.turn_detection is not None
        for event in self.ear.push(audio, rate, detect=detect):
            match event:
                case floor.SpeechStarted():
                    self._spoken = Spoken()
                case floor.SpeechPaused():
                    self._spoken = Spoken(self._clock.time() - event.silence)
            self._session.turn(event)
        if self.ear.speaking and self._gap_check is None:
            self._silence_where_audio_is_missing()

    def _silence_where_audio_is_missing(self) -> None:
        """A client that stops sending in mid-speech has fallen silent: muted, or gone quiet."""
        self._gap_check = None
        if self._arrival.missing():
            self._listen(np.zeros(RATE // 10, np.float32), RATE)
        if self.ear.speaking and self._gap_check is None:
            self._gap_check = self._clock.call_at(
                self._clock.time() + 0.1, self._silence_where_audio_is_missing
            )

    def _words(self, words: Words) -> None:
        """The words of the turn so far: those that will not change, and with those that may."""
        stable, likely = words.stable, words.likely
        turn = self._session.turns.turn
        if turn is None or turn.announced:
            self._session.caller.caption(stable)
        said = floor.Heard(stable, likely, words.quiet, words.confidence)
        said = replace(said, echoed=self._echoed(likely, words.confidence), below=self.ear.below)
        self._session.turn(said)

    def _echoed(self, words: str, confidence: float) -> float:
        """Part of the caller's words that the reply has just said itself."""
        reply = self._session.reply
        return echoed(words, reply.text[-_JUST_SAID:], confidence) if reply else 0.0
