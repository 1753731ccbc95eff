"""Speak the recorded callers' lines that are not there yet with Kokoro:
assistant/clients/caller/*.flac, 16 kHz mono."""

from __future__ import annotations

import numpy as np
import soundfile
import soxr

from assistant.clients.caller import demo, questions, wake_words
from assistant.models import locate
from speech.interfaces import RATE
from speech.tts.kokoro import KokoroSynthesizer


def main() -> None:
    synthesizer = KokoroSynthesizer(locate("kokoro"), threads=2)
    for line in [*questions(), *demo().values(), *wake_words()]:
        if line.path.exists():
            continue
        steps = synthesizer.synthesize(line.text, voice=line.voice)
        pcm = np.concatenate([speech.pcm for speech in steps])
        audio = soxr.resample(pcm, synthesizer.sample_rate, RATE)
        soundfile.write(line.path, audio, RATE, subtype="PCM_16")
        print(f"{line.path.name}: {len(audio) / RATE:.2f} s")


if __name__ == "__main__":
    main()
