"""Kokoro-82M: rich voices, American, British and Chinese (Apache-2.0; arXiv 2306.07691 describes
StyleTTS 2, which it is).

English phonemes come from espeak (GPL-3, through kokoro-onnx), Chinese ones from misaki. The
length of every phoneme, an inner tensor of the model, gives exact ends of words.
"""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from kokoro_onnx.tokenizer import Tokenizer

from speech.interfaces import Speech, SpeechError, Voice
from speech.runtime import onnx_session
from speech.tts.shape import shaped, with_output, word_ends
from speech.tts.text import SpokenWord, has_chinese, joined, sentences, spoken_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from speech.interfaces import Audio

_DURATIONS = "/encoder/Clip_output_0"
"""Frames for each token, as the v1.0 export names it."""
_FRAME = 600
"""Samples in one such frame: 25 ms."""
_LONGEST = 500
"""Phonemes that the model takes at once are 510; the rest is room for pauses."""
_LATIN = re.compile(r"([A-Za-z](?:[A-Za-z' -]*[A-Za-z])?)")
_LANGUAGES = {"a": "en-US", "b": "en-GB", "z": "zh-CN"}
_GENDERS = {"f": "female", "m": "male"}
_DEFAULTS = {"en-US": "af_heart", "en-GB": "bf_emma", "zh-CN": "zf_xiaoxiao"}
_ESPEAK = {"en-US": "en-us", "en-GB": "en-gb"}


class KokoroSynthesizer:
    """The model in `folder`: kokoro.onnx, vocab.json, and voices.npz with a style of shape
    (510, 1, 256) for each voice."""

    sample_rate = 24_000

    def __init__(self, folder: Path, threads: int = 2) -> None:
        try:
            model = with_output((folder / "kokoro.onnx").read_bytes(), _DURATIONS)
            vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))["vocab"]
            with np.load(folder / "voices.npz") as styles:
                self._styles: dict[str, Audio] = {
                    name: styles[name] for name in sorted(styles) if name[0] in _LANGUAGES
                }
        except (OSError, ValueError, KeyError) as error:
            msg = f"expected kokoro.onnx, vocab.json and voices.npz in {folder}: {error}"
            raise SpeechError(msg) from error
        self._session = onnx_session(model, threads)
        # phonemizer warns of every word that espeak merges with the next.
        logging.getLogger("phonemizer").setLevel(logging.ERROR)
        self._tokenizer = Tokenizer(vocab=vocabulary)
        self._alone = lru_cache(maxsize=4096)(self._phonemes)
        self.voices = tuple(
            Voice(name, _LANGUAGES[name[0]], _GENDERS[name[1]]) for name in self._styles
        )

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        """Speak `text`, a sentence a step, shape (n,) at 24 kHz.

        Text with Chinese in it is spoken by a Chinese voice, whatever `voice` says, and other text
        by the voice asked for. Marks count characters of the whole `text` and samples of their
        own Speech. Raises SpeechError for a speed outside [0.5, 2]."""
        if not 0.5 <= speed <= 2:
            msg = f"expected a speed between 0.5 and 2, got {speed}"
            raise SpeechError(msg)
        name = self._voice_for(voice, text)
        for sentence in sentences(spoken_words(text)):
            for piece in self._pieces(sentence, _LANGUAGES[name[0]]):
                yield self._speak(piece, name, speed)

    def _voice_for(self, voice: str, text: str) -> str:
        """The voice that speaks: the one asked for where it knows the text's language."""
        chinese = has_chinese(text)
        if voice in self._styles and (not chinese or voice.startswith("z")):
            return voice
        language = "zh-CN" if chinese else _LANGUAGES.get(voice[:1], "en-US")
        wanted = _DEFAULTS[language]
        fitting = [known for known in self._styles if known[0] == wanted[0]]
        if not fitting:
            msg = f"expected a voice for {language} in voices.npz, got {', '.join(self._styles)}"
            raise SpeechError(msg)
        return wanted if wanted in fitting else fitting[0]

    def _phonemes(self, text: str, language: str) -> str:
        if language == "zh-CN":
            found = _chinese(text, lambda english: self._phonemes(english, "en-US"))
        else:
            found = self._tokenizer.phonemize(text, _ESPEAK[language])
        return str(self._tokenizer.known(found))

    def _pieces(
        self, words: tuple[SpokenWord, ...], language: str
    ) -> Iterator[tuple[SpokenWord, ...]]:
        """The sentence, cut in halves until each fits the model."""
        if len(words) < 2 or len(self._phonemes(joined(words), language)) <= _LONGEST:
            yield words
            return
        middle = len(words) // 2
        yield from self._pieces(words[:middle], language)
        yield from self._pieces(words[middle:], language)

    def _speak(self, words: tuple[SpokenWord, ...], name: str, speed: float) -> Speech:
        language = _LANGUAGES[name[0]]
        phonemes = self._phonemes(joined(words), language)[:_LONGEST]
        tokens = self._tokenizer.tokenize(phonemes)
        style = self._styles[name]
        audio, frames = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1],
                "speed": np.array([speed], np.float32),
            },
        )
        heard = audio.reshape(-1)
        lengths = frames.reshape(-1) * _FRAME
        gap = "" if language == "zh-CN" else " "
        alone = ["^", *(self._alone(word.text, language) + gap for word in words)]
        ends = word_ends(alone, ["^", *phonemes], lengths[:-1])[1:]
        return shaped(heard, self.sample_rate, words, ends)


def _chinese(text: str, english: Callable[[str], str]) -> str:
    """Phonemes of Chinese text; the English words in it are left to `english`."""
    made: list[str] = []
    for number, part in enumerate(_LATIN.split(text)):
        if number % 2:
            made.append(english(part))
        elif part.strip():
            made.append(_pronounce()(part)[0])
    return " ".join(made)


@lru_cache(maxsize=1)
def _pronounce() -> Callable[[str], tuple[str, None]]:
    """misaki's Chinese pronunciation; its dictionary takes a second to load, so only on demand."""
    import jieba
    from misaki.zh import ZHG2P

    jieba.setLogLevel(logging.WARNING)
    pronounce: Callable[[str], tuple[str, None]] = ZHG2P()
    return pronounce
