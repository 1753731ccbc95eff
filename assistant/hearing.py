"""The caller's side of a call: audio in, speech events and words out (steps 1 to 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant import floor
from assistant.config import TurnSettings
from speech.audio import AudioBuffer, Framer, Resampler, to_float
from speech.dip import Dips
from speech.echo import ECHO, LATE, EchoGate
from speech.farend import FarEnd
from speech.interfaces import FRAME, RATE, Audio, Pcm, SpeechError, Transcript
from speech.level import CallerLevel
from speech.live import LiveTranscript, quietest
from speech.prosody import Prosody, prosody
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted

if TYPE_CHECKING:
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 40
"""Audio kept: one recognition window of at most 30 s, and what comes in while it is decoded."""
_WINDOW = 25 * RATE
"""Open audio beyond this is recognised and closed before more is taken in."""
_CUT_SEARCH = 2 * RATE
_TAIL = int(0.2 * RATE)
"""Audio after the last speech that is decoded with it: final consonants are quiet."""
_FIRST_PARTIAL = 0.15
"""Seconds from the onset of a turn, as it is noticed, to its first decode."""
_PARTIAL_EVERY = 0.25
"""Seconds between two decodes of the growing segment."""
_OVER_A_REPLY = (_FIRST_PARTIAL, 0.17, 0.17)
"""The same for the first decodes of speech over a reply, which is held for it: what it is should
be known before the hold is over."""
_DIP = 2 * FRAME
"""Silence in mid-speech at which the segment is decoded at once, where no dip of its loudness has
shown it before: if the turn is over, its words are known when the pause is noticed."""
_RINGING = RATE // 10
"""Audio that voice activity may still take for speech when it can no longer be heard."""
_PATIENCE = 0.1
"""Seconds for which a decode lets the language model finish what it reads ahead."""
_ENDPOINT_WINDOW = 8 * RATE


@dataclass(frozen=True, slots=True)
class Stretch:
    """A turn's audio: where its speech ends, and where what is decoded with it does."""

    live: LiveTranscript | None
    speech_to: int
    audible_to: int
    """Where it was last loud enough to hold a word."""
    end: int


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a turn so far."""

    stable: str
    """Those that will not change."""
    likely: str
    """With those that still may."""
    confidence: float = 1.0
    """Of the decode that they come from."""
    quiet: bool = False
    """The caller has just fallen silent."""


class Ear:
    """Frames, voice activity and the words of one call's caller.

    `report` is called after each decode of a turn that goes on."""

    def __init__(
        self, engines: Engines, settings: TurnSettings, report: Callable[[Words], None]
    ) -> None:
        self._engines = engines
        self._report = report
        self._vad = engines.vad.open()
        self._segmenter = Segmenter(
            threshold=settings.vad_threshold,
            min_speech_ms=settings.min_speech_ms,
            pause_ms=settings.pause_ms,
            prefix_ms=settings.prefix_ms,
        )
        self._rate = 0
        self._resampler = Resampler(RATE, RATE)
        self._framer = Framer(FRAME)
        self._buffer = AudioBuffer(_KEEP_SECONDS)
        self._dips = Dips()
        self.loudspeaker = FarEnd()
        self._gate = EchoGate(self.loudspeaker)
        self._echo = Resampler(RATE, RATE)
        self._level = CallerLevel()
        self._live: LiveTranscript | None = None
        self._decoding = asyncio.Lock()
        self._partials: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: tuple[int, asyncio.Task[tuple[float, Prosody]]] | None = None
        """Where the caller last fell silent, and how that sounds."""
        self._dip = asyncio.Event()
        self._latest: tuple[LiveTranscript, int, Transcript] | None = None
        """The newest decode of an open segment, and the sample up to which it listened."""
        self._turn_language = ""
        """Of the turn under way, once a decode of it has shown it."""
        self.language = ""
        """Of the caller, as the client says; empty: detect."""
        self.semantic = True
        """Whether how a turn's end sounds will be asked for (`ending`)."""
        self.spoken_language = "en"
        """As last recognised."""
        self.speech_from = 0
        """First sample, with its pre-roll, of the latest stretch of speech."""
        self.speech_to = 0
        """Where the latest speech ended, in samples."""
        self._cut: int | None = None
        self._onset = self._turn_from = self._echo_rate = 0
        self.finished_to = 0
        """Where the audio of the latest finish() ended."""

    @property
    def end(self) -> int:
        """Samples at RATE taken in so far."""
        return self._buffer.end

    @property
    def speech_from_ms(self) -> int:
        """Where the latest speech began, in the client's audio."""
        return self.speech_from * 1000 // RATE

    @property
    def speech_to_ms(self) -> int:
        return self.speech_to * 1000 // RATE

    @property
    def turn_seconds(self) -> float:
        """How long the turn under way is, up to its latest speech."""
        return max(0, self.speech_to - self._turn_from) / RATE

    @property
    def speaking(self) -> bool:
        return self._segmenter.speaking

    async def room(self) -> None:
        """Wait until there is room for more audio: a recogniser that is behind pushes back."""
        while self._live and self._buffer.end - self._live.start > _WINDOW:
            await self._close_segment(self._live)

    def push(
        self, audio: Audio, rate: int, *, detect: bool
    ) -> list[floor.SpeechStarted | floor.SpeechSuspected | floor.SpeechPaused]:
        """Take audio of shape (n,) at `rate` Hz in; what it shows about speech, if `detect`."""
        if rate != self._rate:
            self._rate, self._resampler = rate, Resampler(rate, RATE)
        audio = self._resampler.push(audio)
        happened: list[floor.SpeechStarted | floor.SpeechSuspected | floor.SpeechPaused] = []
        for frame in self._framer.push(audio):
            near = self._gate.push(frame, self._buffer.end)
            self._buffer.append(near.audio)
            dip = self._dips.push(near.audio)
            heard = self._vad.probability(near.audio) if detect else 0.0
            # The segmenter counts every frame, so that its samples are the buffer's.
            event = self._segmenter.push(heard if near.echo < ECHO else 0.0)
            if event and detect:
                happened.append(self._noted(event))
            elif detect and self._segmenter.suspects:
                happened.append(floor.SpeechSuspected())
            silent = self.speaking and self._segmenter.silence == _DIP
            if self.speaking and (dip or silent):
                self._dip.set()
            if silent and self._live and self.semantic and not self._engines.busy("endpoint"):
                self._score(self._buffer.end - _DIP)
        if not detect or self.speaking:
            self.speech_to = self._buffer.end
        return happened

    def _noted(
        self, event: SpeechStarted | SpeechPaused
    ) -> floor.SpeechStarted | floor.SpeechPaused:
        now = self._segmenter.position
        if isinstance(event, SpeechStarted):
            self._onset = event.at
            start = event.from_sample
            if self._cut is not None and event.at - self._cut < _CUT_SEARCH:
                start = self._cut
            self._cut = None
            self.speech_from = max(start, self._buffer.begin)
            return floor.SpeechStarted((now - event.at) / RATE, self.below)
        self.speech_to = event.at
        speech = (event.at - self._onset) / RATE
        return floor.SpeechPaused((now - event.at) / RATE, speech, self.below)

    # --- whose voice ----------------------------------------------------------------------

    def plays(self, pcm: Pcm, rate: int, delay: float) -> None:
        """The caller will hear these samples, shape (n,) at `rate` Hz, `delay` seconds after what
        was taken in last: their echo is no speech."""
        if rate != self._echo_rate:
            self._echo_rate, self._echo = rate, Resampler(rate, RATE)
        at = self._buffer.end + round(delay * RATE)
        self.loudspeaker.play(self._echo.push(to_float(pcm)), at)

    def silenced(self, delay: float) -> None:
        """What was to be heard later than that is not."""
        self.loudspeaker.cut(self._buffer.end + round(delay * RATE))

    @property
    def below(self) -> float:
        """dB by which the latest speech lies under the caller's usual level, or a presumed one."""
        end = self._buffer.end if self.speaking else self.speech_to
        return self._level.margin(self._buffer.slice(min(self._onset, end), end))

    def settle(self, *, caller: bool) -> None:
        """The turn under way was the caller's, or somebody else's who is farther away."""
        audio = self._buffer.slice(min(self._turn_from, self.speech_to), self.speech_to)
        if caller:
            self._level.accept(audio)
        else:
            self._level.reject(audio)

    # --- words ----------------------------------------------------------------------------

    def begin(self, at: int | None = None, *, over_reply: bool = False) -> None:
        """A turn begins: `at` a sample, or at the latest onset of speech."""
        self.forget()
        self._turn_from = self.speech_from if at is None else at
        self._live = LiveTranscript(self._turn_from)
        self._turn_language = ""
        self._partials = asyncio.create_task(self._decode_along(self._live, over_reply=over_reply))
        self._running.add(self._partials)
        self._partials.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """The call is over: return when nothing of it runs any more."""
        self.forget()
        await asyncio.gather(*self._running, return_exceptions=True)

    def forget(self) -> None:
        """The turn is over; its audio is not needed again."""
        if self._partials:
            self._partials.cancel()
        self._live = self._partials = self._latest = None

    def cut(self) -> None:
        """The turn ended in mid-speech: what goes on is the next one's, from where it ended."""
        if self.speaking:
            self._segmenter.restart()
            self._cut = self.finished_to

    def drain(self) -> None:
        """The client says that its turn is over: take in what still waits for a whole frame."""
        self.push(np.zeros(LATE + FRAME, np.float32), RATE, detect=False)

    def so_far(self) -> Stretch:
        """The turn under way, as long as it is by now."""
        end = min(self.speech_to + _TAIL, self._buffer.end)
        audible_to = max(self._dips.audible_to, self.speech_to - _RINGING)
        return Stretch(self._live, self.speech_to, min(audible_to, self.speech_to), end)

    async def finish(self, turn: Stretch | None = None) -> Words:
        """All words of `turn`, or of the one under way. Raises SpeechError."""
        turn = turn or self.so_far()
        live, self.finished_to = turn.live, turn.end
        if live is None:
            return Words("", "")
        async with self._decoding:
            transcript, end = await self._final(live, turn)
            if transcript.text:
                self.spoken_language = transcript.language
            text = live.text(transcript)
            confidence = live.confidence(transcript)
            if live.must_close(end, paused=True):
                live.close(transcript, end)
                self._tell(live, transcript.confidence)
            return Words(text, text, confidence)

    @property
    def _all_decoded(self) -> bool:
        """Whether the newest decode has listened to all that was audible of the turn so far."""
        latest = self._latest
        if latest is None or latest[0] is not self._live:
            return False
        return latest[1] >= self.so_far().audible_to

    async def _final(self, live: LiveTranscript, turn: Stretch) -> tuple[Transcript, int]:
        """A decode of all speech of `turn`, and the sample up to which it listened."""
        if self._latest and self._latest[0] is live and self._latest[1] >= turn.audible_to:
            return self._latest[2], self._latest[1]
        end = max(turn.end, live.start)
        return await self._decode(live, end, self._turn_language), end

    async def ending(self) -> tuple[float, Prosody]:
        """P(the turn is over) by its last seconds, and how they sound. Raises SpeechError."""
        return await asyncio.shield(self._score(self.speech_to))

    def _score(self, end: int) -> asyncio.Task[tuple[float, Prosody]]:
        """The task that judges the audio up to `end`, where the caller has fallen silent; silence
        behind it would only say that there is a pause. It begins before the pause is sure, while
        recognition leaves a core free: a reply that is prepared then needs both."""
        if self._ending is None or self._ending[0] != end:
            start = max(self._live.start if self._live else 0, end - _ENDPOINT_WINDOW, 0)
            audio = self._buffer.slice(min(start, end), end)
            endpointer = self._engines.endpointer
            task = asyncio.create_task(
                self._engines.run(
                    "endpoint", lambda: (endpointer.completeness(audio), prosody(audio))
                )
            )
            self._ending = end, task
            self._running.add(task)
            task.add_done_callback(self._scored)
        return self._ending[1]

    def _scored(self, task: asyncio.Task[tuple[float, Prosody]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits it is told; perhaps nobody does

    async def _decode_along(self, live: LiveTranscript, *, over_reply: bool) -> None:
        first = _OVER_A_REPLY if over_reply else (_FIRST_PARTIAL,)
        waits = chain(first, repeat(_PARTIAL_EVERY))
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(next(waits)):
                    await self._dip.wait()
            self._dip.clear()
            # A decode that starts late in a pause would only delay the one that counts.
            late = self._segmenter.silence > _DIP or self._all_decoded
            if late or not self.speaking or self._engines.busy("asr"):
                continue
            if live.must_close(self._buffer.end, paused=False):
                await self._close_segment(live)
                continue
            async with self._decoding:
                end = self._buffer.end
                try:
                    transcript = await self._decode(live, end)
                except SpeechError as error:
                    _log.warning("partial recognition failed: %s", error)
                    continue
                live.partial(transcript)
                self._turn_language = transcript.language
                self._latest = (live, end, transcript)
                self._tell(live, transcript.confidence)

    async def _close_segment(self, live: LiveTranscript) -> None:
        async with self._decoding:
            if live.must_close(self._buffer.end, paused=False):
                await self._close_at(live, self._quiet_cut(live))

    def _quiet_cut(self, live: LiveTranscript) -> int:
        """A quiet sample near the end of the window, so that no word is cut in two."""
        end = min(live.start + _WINDOW, self._buffer.end)
        start = max(end - _CUT_SEARCH, live.start)
        return start + quietest(self._buffer.slice(start, end))

    async def _close_at(self, live: LiveTranscript, end: int) -> None:
        try:
            transcript = await self._decode(live, end)
        except SpeechError as error:
            seconds = (end - live.start) / RATE
            _log.error("%.1f s of a long turn were not recognised: %s", seconds, error)
            transcript = Transcript("")
        live.close(transcript, end)
        self._tell(live, transcript.confidence)

    async def _decode(self, live: LiveTranscript, end: int, language: str = "") -> Transcript:
        """`language` spares the recogniser from detecting it again."""
        audio = self._buffer.slice(live.start, end)
        # Never words of this audio itself: Whisper would take them as said and go on after them.
        context = live.before[-200:]
        async with self._engines.undisturbed(_PATIENCE):
            return await self._engines.run(
                "asr",
                lambda: self._engines.recognizer.transcribe(
                    audio, language=self.language or language, context=context
                ),
            )

    def _tell(self, live: LiveTranscript, confidence: float) -> None:
        if live is self._live:
            self._report(Words(live.stable, live.likely, confidence, self._dips.quiet))
