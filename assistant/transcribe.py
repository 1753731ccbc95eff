"""Recordings of any length to text: cut at quiet places, recognised piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from assistant.engines import Engines
from speech.interfaces import RATE, Audio, Word

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
_LONGEST = 25 * RATE
"""Samples in one piece; a caller's words wait at most for one of them."""
_SEARCHED = 10 * RATE
"""How far back from there a quiet place is looked for."""
_STEP = RATE // 20
_UNSPACED = "\u2e80"
"""Where the scripts begin that write no spaces between words."""
_SENTENCE_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")


@dataclass(frozen=True, slots=True)
class Recording:
    """What was said in a recording; times in seconds from its start."""

    text: str
    language: str
    duration: float
    words: tuple[Word, ...]

    def to_format(self, name: str) -> str | dict[str, Any]:
        """In one of FORMATS, as the OpenAI API has it."""
        match name:
            case "json":
                usage = {"type": "duration", "seconds": round(self.duration, 3)}
                return {"text": self.text, "usage": usage}
            case "verbose_json":
                return self._verbose()
            case "srt":
                return "".join(f"{n}\n{_cue(cue, ',')}" for n, cue in enumerate(self.cues(), 1))
            case "vtt":
                return "WEBVTT\n\n" + "".join(_cue(cue, ".") for cue in self.cues())
            case _:
                return self.text + "\n"

    def cues(self) -> Iterator[Word]:
        """The sentences, each with its time."""
        begun: list[Word] = []
        for word in self.words:
            begun.append(word)
            if word.text.rstrip().endswith(_SENTENCE_ENDS):
                yield _joined(begun)
                begun = []
        if begun:
            yield _joined(begun)

    def _verbose(self) -> dict[str, Any]:
        segments = [
            {"id": n, "start": cue.start, "end": cue.end, "text": cue.text}
            for n, cue in enumerate(self.cues())
        ]
        words = [{"word": w.text.strip(), "start": w.start, "end": w.end} for w in self.words]
        return {
            "task": "transcribe",
            "language": self.language,
            "duration": self.duration,
            "text": self.text,
            "segments": segments,
            "words": words,
        }


async def transcribe(
    engines: Engines, audio: Audio, *, language: str = "", context: str = ""
) -> Recording:
    """The words of `audio`, shape (n,) at RATE, of any length. Raises SpeechError."""
    texts: list[str] = []
    words: list[Word] = []
    at = 0
    for piece in pieces(audio):
        found = await engines.run(
            "asr",
            partial(
                engines.recognizer.transcribe,
                piece,
                language=language,
                context=" ".join([context, *texts[-1:]]).strip(),
                word_times=True,
            ),
        )
        # One recording has one language: what its first words show holds for the rest.
        language = language or (found.language if found.text else "")
        texts += [found.text] if found.text else []
        offset = at / RATE
        words += [Word(w.text, offset + w.start, offset + w.end) for w in found.words]
        at += len(piece)
    return Recording(" ".join(texts), language or "en", len(audio) / RATE, tuple(words))


def pieces(audio: Audio) -> Iterator[Audio]:
    """`audio` cut where it is quietest into pieces that the recogniser takes at once."""
    while len(audio) > _LONGEST:
        searched = audio[_LONGEST - _SEARCHED : _LONGEST].reshape(-1, _STEP)
        quietest = int(np.argmin(np.square(searched).mean(axis=1)))
        cut = _LONGEST - _SEARCHED + quietest * _STEP + _STEP // 2
        yield audio[:cut]
        audio = audio[cut:]
    if len(audio):
        yield audio


def _joined(words: list[Word]) -> Word:
    text = ""
    for word in words:
        text += word.text if not text or word.text[:1] >= _UNSPACED else f" {word.text}"
    return Word(text, words[0].start, words[-1].end)


def _cue(cue: Word, point: str) -> str:
    return f"{_clock(cue.start, point)} --> {_clock(cue.end, point)}\n{cue.text}\n\n"


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
