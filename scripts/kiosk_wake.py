"""How often a kiosk wakes: on its word in every recorded voice, and on other speech.

    python scripts/kiosk_wake.py --minutes 30

Everything passes through the kiosk's own path (WebRTC's noise suppression, then the wake word), as
fast as the machine can. Other speech is the recorded callers' lines, the benchmark's where they are
there, both also slower and faster, which makes other voices of them; then Piper reads the project's
documentation until the time is full, with words that sound like the wake word in between.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from assistant.clients.caller import demo, questions, wake_words
from assistant.clients.cleaner import Cleaner
from assistant.clients.line import RATE
from assistant.clients.soundcard import BLOCK, Block
from assistant.clients.wakeword import WakeWord
from assistant.models import Catalogue, locate
from speech.interfaces import Pcm

_LEVELS_DB = (0, -10, -20)
"""Of the wake word, under the recordings' own level."""
_NOISE_DB = -20
"""Of white noise, under the word's level."""
_SPEEDS = (1.0, 0.87, 1.15)
_NEAR = (
    "Hey Charles, have a look.", "Hey, Travis is here.", "The jar is on the shelf.",
    "Hey Marvin, come in.", "He said his name was Jarvis.", "Jarring noises, hey?",
    "They harvest in September.", "Hey, John is this yours?",
)  # fmt: skip
_MARKUP = re.compile(r"```.*?```|`[^`]*`|\|[^\n]*\||[#*\[\]()]", re.DOTALL)
_QUIET = np.zeros(BLOCK, np.int16)


class Ear:
    """The kiosk's path from the microphone to the wake word."""

    def __init__(self, word: str) -> None:
        self._cleaner, self._word = Cleaner(), WakeWord(word)

    def wakes(self, pcm: Pcm) -> int:
        """How often it wakes in these samples and the second of silence after them."""
        padded = np.concatenate([pcm, np.zeros(RATE + -len(pcm) % BLOCK, np.int16)])
        count = 0
        for heard in padded.reshape(-1, BLOCK):
            clean = self._cleaner.clean(Block(heard, _QUIET))
            count += self._word.hear(clean, self._cleaner.speech)
        return count


def woken(ear: Ear, word: str) -> Iterator[tuple[str, int, bool, bool]]:
    """(voice, level, with noise, whether it woke) of every recording."""
    noise = np.random.default_rng(1)
    for line in wake_words():
        if line.name != word:
            continue
        for level in _LEVELS_DB:
            speech = line.audio() * 10 ** (level / 20)
            rms = np.sqrt(np.mean(np.square(speech)))
            hiss = noise.normal(0, rms * 10 ** (_NOISE_DB / 20), len(speech))
            for noisy in (False, True):
                sound = (speech + hiss * noisy).astype(np.int16)
                yield line.voice, level, noisy, ear.wakes(sound) > 0


def other_speech() -> Iterator[Pcm]:
    """Recorded lines at each speed, then Piper without end."""
    from speech.tts.piper import PiperSynthesizer

    lines = [line.audio() for line in (*questions(), *demo().values())]
    for path in sorted((Catalogue.load().root / "callers").glob("*.npz")):
        with np.load(path) as kept:
            lines.append(kept["pcm"])
    for speed in _SPEEDS:
        yield from (soxr.resample(line, RATE * speed, RATE) for line in lines)
    synthesizer = PiperSynthesizer(locate("piper-joe"), threads=1)
    for number, sentence in enumerate(_sentences()):
        text = _NEAR[number // 4 % len(_NEAR)] if number % 4 == 0 else sentence
        speed = _SPEEDS[number % len(_SPEEDS)]
        steps = [speech.pcm for speech in synthesizer.synthesize(text, speed=speed)]
        pcm = np.concatenate([np.zeros(0, np.int16), *steps])
        yield soxr.resample(pcm, synthesizer.sample_rate, RATE)


def _sentences() -> Iterator[str]:
    folder = Path(__file__).parent.parent
    while True:
        for path in (folder / "ARCHITECTURE.md", *sorted((folder / "docs").glob("*.md"))):
            prose = _MARKUP.sub(" ", path.read_text())
            yield from (words for s in prose.split(". ") if len(words := " ".join(s.split())) > 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of other speech")
    parser.add_argument("--word", default="hey_jarvis")
    args = parser.parse_args()
    ear = Ear(args.word)
    results = list(woken(ear, args.word))
    for voice in dict.fromkeys(result[0] for result in results):
        own = [woke for name, _, _, woke in results if name == voice]
        print(f"{voice}: {sum(own)} of {len(own)}")
    heard, false, pieces = 0, 0, 0
    for pcm in other_speech():
        if heard >= args.minutes * 60 * RATE:
            break
        if wakes := ear.wakes(pcm):
            print(f"woke in piece {pieces}, {heard / RATE:.0f} s from the beginning")
        heard, pieces, false = heard + len(pcm), pieces + 1, false + wakes
    print(f"other speech: {heard / RATE / 60:.1f} minutes in {pieces} pieces, {false} wakes")


if __name__ == "__main__":
    main()
