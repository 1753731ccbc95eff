"""Piper (VITS): a fast English voice. piper-tts is GPL-3, and imported nowhere else.

A sentence is spoken at a time. The length of every phoneme, an inner tensor of the model, gives
exact ends of words.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
from piper import PiperVoice
from piper.config import PiperConfig

from speech.interfaces import Speech, SpeechError, Voice
from speech.runtime import onnx_session
from speech.tts.shape import shaped, with_output, word_ends
from speech.tts.text import SpokenWord, has_chinese, joined, sentences, spoken_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DURATIONS = "/Ceil_output_0"
"""Frames of `hop_length` samples for each phoneme id, as VITS exports name it."""


class PiperSynthesizer:
    """One Piper voice: the `.onnx` at `path` with its `.onnx.json` beside it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            settings = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
            config = PiperConfig.from_dict(settings)
            model = with_output(path.read_bytes(), _DURATIONS)
        except (OSError, ValueError, KeyError) as error:
            msg = f"expected a Piper voice at {path} and its .json beside it: {error}"
            raise SpeechError(msg) from error
        self._config = config
        self._voice = PiperVoice(session=onnx_session(model, threads), config=config)
        self.sample_rate: int = config.sample_rate
        name = path.name.split("-")
        language = name[0].replace("_", "-") if len(name) > 1 else "en-US"
        self.voices: tuple[Voice, ...] = (
            Voice(name[1] if len(name) > 1 else path.stem, language, "male"),
        )

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        """Speak `text`, a sentence a step; `voice` is ignored, as there is one.

        Marks count characters of the whole `text` and samples of their own Speech. Raises
        SpeechError for a speed outside [0.25, 4] and for Chinese, of which this voice could only
        name the letters."""
        del voice
        if not 0.25 <= speed <= 4:
            msg = f"expected a speed between 0.25 and 4, got {speed}"
            raise SpeechError(msg)
        if has_chinese(text):
            msg = f"expected English for {self.voices[0].name}, got Chinese: {text[:20]!r}"
            raise SpeechError(msg)
        for sentence in sentences(spoken_words(text)):
            yield self._speak(sentence, speed)

    def _phonemes(self, text: str) -> list[str]:
        groups = self._voice.phonemize(text)
        return list(itertools.chain.from_iterable([*group, " "] for group in groups))[:-1]

    def _speak(self, words: tuple[SpokenWord, ...], speed: float) -> Speech:
        known = self._config.phoneme_id_map
        phonemes = [part for part in self._phonemes(joined(words)) if part in known]
        ids = self._voice.phonemes_to_ids(phonemes)
        scales = (
            self._config.noise_scale,
            self._config.length_scale / speed,
            self._config.noise_w_scale,
        )
        audio, frames = self._voice.session.run(
            None,
            {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array(scales, np.float32),
            },
        )
        # Ids are ^ _, then each phoneme and _, then $: two a phoneme, with one more at the end.
        pairs = frames.reshape(-1)[:-1].reshape(-1, 2).sum(axis=1) * self._config.hop_length
        heard = audio.reshape(-1)
        alone = ["^", *(self._alone(word) for word in words)]
        ends = word_ends(alone, ["^", *phonemes], pairs)[1:]
        gain = 0.9 / max(float(np.abs(heard).max(initial=0)), 1e-4)
        return shaped(heard, self.sample_rate, words, ends, gain=min(gain, 4.0))

    def _alone(self, word: SpokenWord) -> str:
        return "".join(self._phonemes(word.text)) + " "
