"""The caller's side of a call: audio in, speech events and words out (steps 1 to 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from assistant.config import TurnSettings
from assistant.engines import Engines
from speech.audio import AudioBuffer, Framer, Resampler
from speech.interfaces import FRAME, RATE, Audio, SpeechError, Transcript
from speech.live import LiveTranscript, quietest
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 40
"""Audio kept: one recognition window of at most 30 s, and what comes in while it is decoded."""
_WINDOW = 25 * RATE
"""Open audio beyond this is recognised and closed before more is taken in."""
_CUT_SEARCH = 2 * RATE
_TAIL = int(0.2 * RATE)
"""Audio after the last speech that is decoded with it: final consonants are quiet."""
_PARTIAL_EVERY = 0.4
"""Seconds between two decodes of the growing segment."""
_ENDPOINT_WINDOW = 8 * RATE


class Ear:
    """Frames, voice activity and the words of one call's caller.

    `report` is called with (all stable text, newly stable words) while the caller speaks."""

    def __init__(
        self, engines: Engines, settings: TurnSettings, report: Callable[[str, str], None]
    ) -> None:
        self._engines = engines
        self._report = report
        self._vad = engines.vad.open()
        self.segmenter = Segmenter(
            threshold=settings.vad_threshold,
            min_speech_ms=settings.min_speech_ms,
            pause_ms=settings.pause_ms,
            prefix_ms=settings.prefix_ms,
        )
        self._rate = 0
        self._resampler = Resampler(RATE, RATE)
        self._framer = Framer(FRAME)
        self._buffer = AudioBuffer(_KEEP_SECONDS)
        self._live: LiveTranscript | None = None
        self._decoding = asyncio.Lock()
        self._partials: asyncio.Task[None] | None = None
        self.language = ""
        """Of the caller, as the client says; empty: detect."""
        self.spoken_language = "en"
        """As last recognised."""
        self.speech_from = 0
        """First sample, with its pre-roll, of the latest stretch of speech."""
        self.speech_to = 0
        """Where the latest speech ended, in samples."""

    @property
    def position_ms(self) -> int:
        """How much audio the caller has sent."""
        return self._buffer.end * 1000 // RATE

    @property
    def voiced(self) -> bool:
        """Whether the newest frame is speech: a pause may be about to begin when it is not."""
        return self.segmenter.voiced

    async def room(self) -> None:
        """Wait until there is room for more audio: a recogniser that is behind pushes back."""
        while self._live and self._buffer.end - self._live.start > _WINDOW:
            await self._close_segment(self._live)

    def push(self, samples: Audio, rate: int, *, detect: bool) -> list[SpeechStarted | SpeechPaused]:
        """Take audio of shape (n,) at `rate` Hz in; what it shows about speech, if `detect`."""
        if rate != self._rate:
            self._rate, self._resampler = rate, Resampler(rate, RATE)
        samples = self._resampler.push(samples)
        self._buffer.append(samples)
        happened: list[SpeechStarted | SpeechPaused] = []
        for frame in self._framer.push(samples):
            probability = self._vad.probability(frame) if detect else 0.0
            event = self.segmenter.push(probability)
            if isinstance(event, SpeechStarted):
                self.speech_from = max(event.from_sample, self._buffer.begin)
            elif event:
                self.speech_to = event.at
            if event and detect:
                happened.append(event)
        return happened

    # --- words ----------------------------------------------------------------------------

    def begin(self, start: int | None = None) -> None:
        """A turn begins, at the latest onset of speech unless `start` says where."""
        self._live = LiveTranscript(self.speech_from if start is None else start)
        self.listen_along()

    def listen_along(self) -> None:
        """Recognise the growing segment while speech goes on."""
        self._stop_partials()
        self._partials = asyncio.create_task(self._decode_along())

    def forget(self) -> None:
        """The turn is over; its audio is not needed again."""
        self._stop_partials()
        self._live = None

    async def finish(self) -> str:
        """All words of the turn up to the latest speech. Raises SpeechError."""
        self._stop_partials()
        async with self._decoding:
            live = self._live
            if live is None:
                return ""
            end = min(max(self.speech_to + _TAIL, live.start), self._buffer.end)
            if end - live.start > _WINDOW:
                await self._close_at(live, self._quiet_cut(live))
            transcript = await self._decode(live, end)
            self.spoken_language = transcript.language
            text = live.text(transcript)
            if live.must_close(end, paused=True):
                self._tell(live, live.close(transcript, end))
            return text

    async def completeness(self) -> float:
        """P(the turn is over), from its last seconds. Raises SpeechError."""
        end = self._buffer.end
        start = max(self._live.start if self._live else 0, end - _ENDPOINT_WINDOW, 0)
        audio = self._buffer.slice(start, end)
        return await self._engines.run(
            "endpoint", lambda: self._engines.endpointer.completeness(audio)
        )

    def close(self) -> None:
        self.forget()

    def _stop_partials(self) -> None:
        if self._partials:
            self._partials.cancel()
            self._partials = None

    async def _decode_along(self) -> None:
        live = self._live
        while live is self._live and live is not None:
            await asyncio.sleep(_PARTIAL_EVERY)
            # A decode that starts in a pause would only delay the one that counts.
            if not self.voiced or self._engines.busy("asr"):
                continue
            end = self._buffer.end
            if live.must_close(end, paused=False):
                await self._close_segment(live)
                continue
            async with self._decoding:
                try:
                    self._tell(live, live.partial(await self._decode(live, end)))
                except SpeechError as error:
                    _log.warning("partial recognition failed: %s", error)

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
        self._tell(live, live.close(transcript, end))

    async def _decode(self, live: LiveTranscript, end: int) -> Transcript:
        audio = self._buffer.slice(live.start, end)
        context = live.stable[-200:]
        return await self._engines.run(
            "asr",
            lambda: self._engines.recognizer.transcribe(
                audio, language=self.language, context=context
            ),
        )

    def _tell(self, live: LiveTranscript, words: str) -> None:
        if words and live is self._live:
            self._report(live.stable, words)
