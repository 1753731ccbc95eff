"""Whisper through CTranslate2, on no more audio than was spoken.

Whisper was trained on 30 s windows, and padding to them is most of the cost of a short turn.
Here the encoder sees the speech plus about a second. Without its long silence the decoder tends
to say everything again and again, so it is asked for timestamps: what starts after the
audio's end was never said (WER on short turns 61 % without, 4 % with). What still loops is
decoded again with more context, in the end over the full window.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.tokenizer import Tokenizer

from speech.features import HOP, log_mel
from speech.interfaces import RATE, Audio, SpeechError, Transcript, Word

if TYPE_CHECKING:
    from pathlib import Path

_WINDOW = 30.0
"""Seconds that the encoder was trained on, and can take."""
_TAIL = 1.0
"""Seconds of silence added after the speech."""
_CONTEXTS = (4.0, 8.0, 30.0)
"""Least seconds of context: under 4 even timestamps do not stop the loops of tiny.en, and what
loops is decoded again with more."""
_SHORTEST = 0.1
"""Seconds of audio that cannot hold a word."""
_QUIET = 1e-3
"""Peak amplitude, -60 dBFS, under which nobody speaks into a microphone."""
_SURE = 0.5
"""Probability a detected language needs; anything less is taken for English."""
_CONTEXT_TOKENS = 64
_CHINESE = "以下是普通话的句子。"
"""Written in simplified characters, as the transcript should be."""

_PHANTOMS = frozenset(
    {
        "you", "thank you", "thanks", "thank you very much", "thanks for watching",
        "thank you for watching", "bye", "bye bye", "so", "okay", "oh", "the", "i", "hmm", "mm",
        "uh", "um", "please subscribe", "谢谢", "谢谢观看", "谢谢大家", "以下是普通话的句子",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "字幕by索兰娅",
    }
)  # fmt: skip
"""What Whisper writes under silence and noise: the subtitles of its training videos."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    ids: tuple[int, ...]
    text: str
    score: float
    """Mean log probability of a token."""
    no_speech: float
    loops: bool
    """Whether the text looks repeated by the decoder; a caller may say no, no, no, too."""


def compression(text: str) -> float:
    """Length against its deflated length: above 2.4 the text repeats itself (Whisper's limit)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def once(text: str) -> str:
    """`text` without a second start: where it begins again, word for word to its end, from four
    words or more, the decoder and not the caller repeated itself."""
    words = text.split()
    keys = [re.sub(r"\W", "", word.lower()) for word in words]
    for size in range(4, len(words) - 3):
        if keys[size:] == keys[: len(keys) - size]:
            return " ".join(words[:size])
    return text


def repeats(text: str) -> bool:
    """Whether `text` ends in a phrase said three times or more, or otherwise loops."""
    words = re.findall(r"\w+", text.lower())
    for size in range(1, len(words) // 3 + 1):
        tail = words[-3 * size :]
        if tail == tail[:size] * 3:
            return True
    return compression(text) > 2.4


class WhisperRecognizer:
    """One loaded model directory (CTranslate2), shared by every call.

    Safe to call from several threads; they take turns."""

    def __init__(self, path: Path, threads: int = 1, beam: int = 1) -> None:
        try:
            self._model = ctranslate2.models.Whisper(
                str(path), device="cpu", compute_type="int8", intra_threads=threads
            )
            self._vocabulary = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # both libraries raise bare RuntimeError and Exception
            msg = f"expected a CTranslate2 Whisper model in {path}: {error}"
            raise SpeechError(msg) from error
        self._beam = beam
        self._tokenizer = lru_cache(maxsize=8)(self._make_tokenizer)

    def _make_tokenizer(self, language: str) -> Tokenizer:
        if not self._model.is_multilingual:
            return Tokenizer(self._vocabulary, multilingual=False)
        try:
            return Tokenizer(
                self._vocabulary, multilingual=True, task="transcribe", language=language
            )
        except ValueError as error:
            msg = f"expected a language that Whisper knows, got {language!r}"
            raise SpeechError(msg) from error

    def transcribe(
        self, audio: Audio, *, language: str = "", context: str = "", word_times: bool = False
    ) -> Transcript:
        """The words of `audio`, shape (n,) at RATE, at most 30 s.

        `language` is an ISO 639-1 code, or empty to detect it, which costs one decoder step; an
        English-only model takes every language for English. Silence and noise give an empty
        text. Raises SpeechError on longer audio, another shape or an unknown language."""
        if audio.ndim != 1 or len(audio) > _WINDOW * RATE:
            msg = f"expected at most {_WINDOW:g} s of audio of shape (n,), got {audio.shape}"
            raise SpeechError(msg)
        if language:
            self._tokenizer(language)
        seconds = len(audio) / RATE
        if seconds < _SHORTEST or np.abs(audio).max() < _QUIET:
            return Transcript("", language=language or "en")
        encoded = self._encode(audio, max(_CONTEXTS[0], seconds + _TAIL))
        tokenizer = self._tokenizer(language or self._detect(encoded))
        result = self._decode(encoded, tokenizer, seconds, context)
        for least in _CONTEXTS[1:]:
            if not result.loops:
                break
            encoded = self._encode(audio, max(least, seconds + _TAIL))
            result = self._decode(encoded, tokenizer, seconds, context)
        if _unsaid(result, seconds):
            return Transcript("", language=tokenizer.language_code, confidence=0.0)
        words = self._align(encoded, tokenizer, result, seconds) if word_times else ()
        confidence = math.exp(min(0.0, result.score))
        return Transcript(result.text, tokenizer.language_code, confidence, words)

    def _encode(self, audio: Audio, context: float) -> ctranslate2.StorageView:
        # The encoder halves the frames, so they must be even in number.
        samples = round(min(context, _WINDOW) * RATE / (2 * HOP)) * 2 * HOP
        padded = np.zeros(max(samples, -(-len(audio) // (2 * HOP)) * 2 * HOP), np.float32)
        padded[: len(audio)] = audio
        features = np.ascontiguousarray(log_mel(padded)[None])
        return self._model.encode(ctranslate2.StorageView.from_array(features))

    def _detect(self, encoded: ctranslate2.StorageView) -> str:
        if not self._model.is_multilingual:
            return "en"
        token, probability = self._model.detect_language(encoded)[0][0]
        return str(token).strip("<|>") if probability >= _SURE else "en"

    def _prompt(self, tokenizer: Tokenizer, context: str) -> list[int]:
        if tokenizer.language_code == "zh":
            context = _CHINESE + context
        if not context:
            return list(tokenizer.sot_sequence)
        before = tokenizer.encode(" " + context.strip())[-_CONTEXT_TOKENS:]
        return [tokenizer.sot_prev, *before, *tokenizer.sot_sequence]

    def _decode(
        self, encoded: ctranslate2.StorageView, tokenizer: Tokenizer, seconds: float, context: str
    ) -> _Decoded:
        prompt = self._prompt(tokenizer, context)
        # Nobody says more than ten tokens a second; a loop would.
        limit = len(prompt) + int(seconds * 10) + 12
        (output,) = self._model.generate(
            encoded,
            [prompt],
            beam_size=self._beam,
            max_length=min(448, limit),
            return_scores=True,
            return_no_speech_prob=True,
        )
        kept = _within(output.sequences_ids[0], tokenizer, seconds)
        text = once(tokenizer.decode(list(kept)).strip())
        return _Decoded(
            ids=kept,
            text=text,
            score=output.scores[0],
            no_speech=output.no_speech_prob,
            loops=repeats(text),
        )

    def _align(
        self,
        encoded: ctranslate2.StorageView,
        tokenizer: Tokenizer,
        result: _Decoded,
        seconds: float,
    ) -> tuple[Word, ...]:
        """Word times from the decoder's cross attention (CTranslate2's `align`)."""
        (found,) = self._model.align(
            encoded, tokenizer.sot_sequence, [list(result.ids)], int(seconds * RATE) // HOP
        )
        first: dict[int, float] = {}
        for token, frame in found.alignments:
            first.setdefault(token, frame * 2 * HOP / RATE)
        words, counts = tokenizer.split_to_word_tokens([*result.ids, tokenizer.eot])
        made: list[Word] = []
        at = 0
        for word, tokens in zip(words[:-1], counts[:-1], strict=True):
            start, at = first.get(at, seconds), at + len(tokens)
            end = min(first.get(at, seconds), seconds)
            if made and not re.search(r"\w", word):
                # Punctuation takes no time; it stands with the word before.
                made[-1] = replace(made[-1], text=made[-1].text + word.strip())
            else:
                made.append(Word(word.strip(), min(start, end), end))
        return tuple(made)


def _within(ids: list[int], tokenizer: Tokenizer, seconds: float) -> tuple[int, ...]:
    """The text tokens of the segments that start while there is still audio to say them in."""
    kept: list[int] = []
    for token in ids:
        if token < tokenizer.eot:
            kept.append(token)
        elif token >= tokenizer.timestamp_begin:
            at = (token - tokenizer.timestamp_begin) * 2 * HOP / RATE
            if kept and at >= seconds - 0.3:
                break
    return tuple(kept)


def _unsaid(result: _Decoded, seconds: float) -> bool:
    """Whether the text is what Whisper makes of silence and noise."""
    plain = re.sub(r"[^\w\s]", "", result.text.lower()).strip()
    if not plain:
        return True
    if result.no_speech <= 0.45:
        return False
    # One clear word scores as low as -1.4, as most of its tokens are timestamps.
    unlikely = result.score < (-1.45 if len(result.ids) < 5 else -1.1)
    sparse = len(result.ids) < 1.2 * seconds - 1
    return unlikely or sparse or (plain in _PHANTOMS and result.score < -0.8)
