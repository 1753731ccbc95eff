"""Speech synthesis: Piper, fast, and Kokoro, rich, behind the Synthesizer protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from speech.interfaces import Synthesizer

SENTENCE = "The morning train was late again, so we walked along the river instead."
"""A sentence to try a voice on."""


def measure(synth: Synthesizer, clock: Callable[[], float]) -> float:
    """Real-time factor on one sentence: seconds of `clock` spent for a second of audio.

    The first run, which allocates memory, is not counted. Raises SpeechError."""
    for _ in synth.synthesize("Ready."):
        pass
    began = clock()
    samples = sum(len(speech.pcm) for speech in synth.synthesize(SENTENCE))
    return (clock() - began) * synth.sample_rate / max(samples, 1)
