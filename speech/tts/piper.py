"""Piper (VITS): a fast English voice. piper-tts is GPL-3, and imported nowhere else.

The model is opened as its two halves. The first plans a sentence: its frames, and the length of
every phoneme, which gives exact ends of words. The second, a HiFi-GAN (arXiv 2010.05646), makes
the sound, two thirds of the work, and hears only a few frames around each sample: so the first
words are made, and can be heard, before the rest of the sentence is.
"""

from __future__ import annotations

import itertools
import json
import math
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.utils import Extractor
from piper import PiperVoice
from piper.config import PiperConfig

from speech.audio import to_float
from speech.interfaces import Audio, Speech, SpeechError, Voice
from speech.runtime import onnx_session
from speech.tts import SENTENCE
from speech.tts.shape import shaped, word_ends
from speech.tts.text import SpokenWord, has_chinese, joined, sentences, spoken_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DURATIONS = "/Ceil_output_0"
"""Frames of `hop_length` samples for each phoneme id, as VITS exports name it."""
_DECODER = "/dec/conv_pre/Conv"
"""The first node of the second half, as they name it."""
_AROUND = 10
"""Frames on either side that a frame's sound depends on; with 8 it is off by a thousandth."""
_FIRST = 0.4
"""Seconds of a sentence, to the end of a word, that are made before the rest."""
_LOUDNESS = 0.08
"""Root mean square that a voice is brought to."""


class PiperSynthesizer:
    """One Piper voice: the `.onnx` at `path` with its `.onnx.json` beside it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            settings = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
            config = PiperConfig.from_dict(settings)
            planner, decoder = _halves(path.read_bytes())
        except (OSError, ValueError, KeyError, DecodeError) as error:
            msg = f"expected a Piper voice at {path} and its .json beside it: {error}"
            raise SpeechError(msg) from error
        self._config = config
        self._voice = PiperVoice(session=onnx_session(planner, threads), config=config)
        self._decoder = onnx_session(decoder, threads)
        self._frames_in = self._decoder.get_inputs()[0].name
        self.sample_rate: int = config.sample_rate
        name = path.name.split("-")
        language = name[0].replace("_", "-") if len(name) > 1 else "en-US"
        self.voices: tuple[Voice, ...] = (
            Voice(name[1] if len(name) > 1 else path.stem, language, "male"),
        )
        self._gain = 1.0
        probe = np.concatenate([to_float(speech.pcm) for speech in self.synthesize(SENTENCE)])
        self._gain = _LOUDNESS / max(float(np.sqrt(np.mean(probe**2))), _LOUDNESS / 4)

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        """Speak `text`, a sentence or its beginning a step; `voice` is ignored, as there is one.

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
            yield from self._speak(sentence, speed)

    def _phonemes(self, text: str) -> list[str]:
        groups = self._voice.phonemize(text)
        return list(itertools.chain.from_iterable([*group, " "] for group in groups))[:-1]

    def _speak(self, words: tuple[SpokenWord, ...], speed: float) -> Iterator[Speech]:
        known, hop = self._config.phoneme_id_map, self._config.hop_length
        phonemes = [part for part in self._phonemes(joined(words)) if part in known]
        ids = self._voice.phonemes_to_ids(phonemes)
        scales = (
            self._config.noise_scale,
            self._config.length_scale / speed,
            self._config.noise_w_scale,
        )
        plan, frames = self._voice.session.run(
            None,
            {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array(scales, np.float32),
            },
        )
        # Ids are ^ _, then each phoneme and _, then $: two a phoneme, with one more at the end.
        pairs = frames.reshape(-1)[:-1].reshape(-1, 2).sum(axis=1) * hop
        alone = ["^", *(self._alone(word) for word in words)]
        ends = word_ends(alone, ["^", *phonemes], pairs)[1:]
        early = self._early(ends, plan.shape[-1])
        cut = math.ceil(ends[early - 1] / hop) if early else 0
        if early:
            yield self._shaped(self._decode(plan, 0, cut), words[:early], ends[:early], last=False)
        rest = [end - cut * hop for end in ends[early:]]
        sound = self._decode(plan, cut, plan.shape[-1])
        yield self._shaped(sound, words[early:], rest, first=not early)

    def _early(self, ends: Sequence[float], frames: int) -> int:
        """How many of the words, whose `ends` are in samples, are made first; 0 where all of the
        `frames` are soon made."""
        early = bisect_left(ends, _FIRST * self.sample_rate) + 1
        worth = early < len(ends) and frames * self._config.hop_length - ends[early - 1]
        return early if worth > _FIRST * self.sample_rate else 0

    def _decode(self, plan: Audio, start: int, stop: int) -> Audio:
        """Samples, shape (n,), of the frames from `start` to `stop` of a plan, shape
        (1, channels, frames)."""
        hop, begin = self._config.hop_length, max(0, start - _AROUND)
        part = plan[..., begin : stop + _AROUND]
        sound: Audio = self._decoder.run(None, {self._frames_in: part})[0].reshape(-1)
        return sound[(start - begin) * hop : (stop - begin) * hop]

    def _shaped(
        self,
        sound: Audio,
        words: Sequence[SpokenWord],
        ends: Sequence[float],
        *,
        first: bool = True,
        last: bool = True,
    ) -> Speech:
        rate, gain = self.sample_rate, self._gain
        return shaped(sound, rate, words, ends, gain=gain, first=first, last=last)

    def _alone(self, word: SpokenWord) -> str:
        return "".join(self._phonemes(word.text)) + " "


def _halves(content: bytes) -> tuple[bytes, bytes]:
    """The model that plans a sentence, and the one that makes its sound. Raises ValueError."""
    model = onnx.load_from_string(content)
    decoders = [node for node in model.graph.node if node.name == _DECODER]
    if not decoders:
        raise ValueError(f"it has no {_DECODER}")
    plan = decoders[0].input[0]
    extractor = Extractor(model)
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    planner = extractor.extract_model(inputs, [plan, _DURATIONS])
    decoder = extractor.extract_model([plan], outputs)
    return planner.SerializeToString(), decoder.SerializeToString()
