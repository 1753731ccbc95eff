"""What becomes of short words over a reply: backchannels, wishes, and words that stop.

    .venv/bin/python scripts/rate_interruptions.py

Each phrase is spoken by Kokoro in voices that no benchmark uses, heard as a call hears it (voice
activity, a decode of the growing segment every quarter of a second, the final decode), and judged
by assistant/interruption.py, over a reply three seconds old. `interruption.py` was written with
the first set's results in view; of the second, a few words were added after it had been looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import soxr
from rich.console import Console
from rich.table import Table

from assistant.interruption import Candidate, Verdict, judge
from assistant.models import locate
from speech.asr import WhisperRecognizer
from speech.audio import to_float
from speech.interfaces import FRAME, RATE, Audio
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted
from speech.tts.kokoro import KokoroSynthesizer
from speech.vad import SileroVad

_FIRST, _EVERY, _TAIL = 0.25, 0.25, 0.2
_NOISE_DB = -55
_AGE = 3.0
_SPEED = 1.1
SETS = {
    "first": (
        ("af_sky", "am_fenrir", "bf_isabella", "bm_george", "af_nova", "am_onyx", "af_sarah",
         "am_eric", "bf_alice", "bm_daniel", "af_jessica", "am_liam"),
        {
            "backchannel": "Mm-hmm.|Uh-huh.|Yeah.|Yes.|Okay.|Right.|I see.|Oh wow.|Really.|Sure.|"
            "Great.|Oh.|Ah.|Got it.|Of course.|That's right.|That's nice.|Makes sense.|"
            "Interesting.|Exactly.|Hm.|Oh yeah.|Oh dear.|Go on.|All right.",
            "wish": "What?|Who?|And why?|Which one?|Speak up.|Louder please.|Again.|Tell me more.|"
            "I disagree.|Next question.|Turn left?|How much?|How many?|Where is that?|My turn.|"
            "That is wrong.|Slower please.|Another one.|In English please.|Say that again.|"
            "Not that one.|Forget it.|I have a question.|What about dogs?|Is it far?",
        },
    ),
    "second": (
        ("af_alloy", "af_kore", "am_echo", "bf_lily", "af_aoede", "af_river", "am_santa",
         "bm_fable"),
        {
            "backchannel": "Mhm.|Yep.|Wow.|Nice.|True.|I know.|No way.|Fair enough.|Lovely.|Good.|"
            "Oh my goodness.|That is great.|Really?|I understand.|Yes, yes.|Ha.",
            "wish": "Where?|When?|Why not?|Turn it off.|Call my son.|Too long.|Something else.|"
            "What time?|Not now.|Go back.|Tell me about Rome.|I am lost.|Is it true?|Help me.|"
            "Who said that?|Cheaper.|Later please.|And in summer?|My name is Anna.|Explain it.",
            "stop": "Stop.|Wait.|No.|Hold on.|Excuse me.|Hang on.|Sorry.|That is enough.",
        },
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    kind: str
    text: str
    voice: str
    words: str
    """What the recogniser made of it."""
    interrupts: bool
    why: str


def heard(voice: str, kinds: dict[str, str]) -> list[Judged]:
    """All phrases in this voice; those that voice activity misses are left out."""
    synthesizer = KokoroSynthesizer(locate("kokoro"), threads=1)
    recognizer = WhisperRecognizer(locate("whisper-base"), threads=1)
    vad, rng = SileroVad(locate("silero-vad")), np.random.default_rng(0)
    made = []
    for kind, phrases in kinds.items():
        for text in phrases.split("|"):
            parts = synthesizer.synthesize(text, voice=voice, speed=_SPEED)
            pcm = to_float(np.concatenate([part.pcm for part in parts]))
            spoken = soxr.resample(pcm, synthesizer.sample_rate, RATE)
            audio = np.pad(spoken, RATE // 2).astype(np.float32)
            audio += rng.normal(0, 10 ** (_NOISE_DB / 20), len(audio)).astype(np.float32)
            candidate = Candidate(None, final=False, speech=0.0, age=_AGE)
            verdict, why = Verdict.OPEN, ""
            for candidate in candidates(audio, vad, recognizer):
                verdict, why = judge(candidate)
                if verdict is not Verdict.OPEN:
                    break
            if candidate.words is not None:
                interrupts = verdict is Verdict.INTERRUPT
                made.append(Judged(kind, text, voice, candidate.words, interrupts, why))
    return made


def candidates(audio: Audio, vad: SileroVad, recognizer: WhisperRecognizer) -> Iterator[Candidate]:
    """What is known while `audio`, shape (n,), is spoken, and when it is over."""
    segmenter, stream = Segmenter(pause_ms=96), vad.open()
    onset = start = end = None
    for frame in range(0, len(audio) - FRAME + 1, FRAME):
        event = segmenter.push(stream.probability(audio[frame : frame + FRAME]))
        if isinstance(event, SpeechStarted) and onset is None:
            onset, start = event.at, event.from_sample
        if isinstance(event, SpeechPaused):
            end = event.at
    if onset is None or end is None:
        return
    for seconds in np.arange(_FIRST, (end - onset) / RATE, _EVERY):
        so_far = recognizer.transcribe(audio[start : onset + int(seconds * RATE)], language="en")
        yield Candidate(so_far.text, False, float(seconds), _AGE, so_far.confidence)
    whole = recognizer.transcribe(audio[start : end + int(_TAIL * RATE)], language="en")
    yield Candidate(whole.text, True, (end - onset) / RATE, _AGE, whole.confidence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(SETS), help="this set alone")
    console = Console()
    table = Table("set", "kind", "n", "as they should")
    only = parser.parse_args().only
    for name in [only] if only else SETS:
        voices, kinds = SETS[name]
        with ProcessPoolExecutor(2) as pool:
            judged = [one for part in pool.map(partial(heard, kinds=kinds), voices) for one in part]
        for kind in kinds:
            ours = [one for one in judged if one.kind == kind]
            wrong = [one for one in ours if one.interrupts == (kind == "backchannel")]
            table.add_row(name, kind, str(len(ours)), f"{100 * (1 - len(wrong) / len(ours)):.1f} %")
            for one in wrong:
                console.print(f"{one.voice}: {one.text} -> {one.words.strip()} ({one.why})")
    console.print(table)


if __name__ == "__main__":
    main()
