"""Make the table that the end-of-turn weights are fitted on: scripts/endpointing.csv.gz.

`python scripts/make_endpointing.py [--minutes M]` speaks the turns of scripts/endpointing.toml,
breaks them off at pauses whose end is known, and writes one row of signals a pause, from the real
voice activity, Smart Turn and Whisper. What is made is kept in --work, so that the work can be
done in pieces; everything is drawn from the turn's own text, so a second run makes the same.
"""

from __future__ import annotations

import argparse
import base64
import csv
import gzip
import io
import json
import logging
import re
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

import jieba
import numpy as np
import soundfile
from rich.progress import track

from assistant.metrics import clock
from assistant.models import locate
from rough import faded, roughened, silent
from speech.asr import WhisperRecognizer
from speech.audio import Resampler, to_float
from speech.endpoint import SmartTurn
from speech.interfaces import FRAME, RATE, Audio, SpeechError, Synthesizer
from speech.prosody import WINDOW, Prosody, prosody
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted
from speech.tts.kokoro import KokoroSynthesizer
from speech.tts.piper import PiperSynthesizer
from speech.vad import SileroVad

HERE = Path(__file__).parent
TURNS = HERE / "endpointing.toml"
TABLE = HERE / "endpointing.csv.gz"

# Voices for train, tune and test; the others of Kokoro's are kept for the benchmark of turns.
VOICES = {
    ("train", "en"): (
        "joe af_alloy af_aoede af_bella af_kore af_nicole af_river am_adam am_echo am_fenrir "
        "am_santa bf_alice bm_fable bm_george"
    ),
    ("tune", "en"): "af_nova af_jessica am_liam bf_lily",
    ("test", "en"): "af_sarah af_sky am_eric am_onyx bf_isabella bm_daniel",
    ("train", "zh"): "zf_xiaobei zf_xiaoni zm_yunjian zm_yunxi",
    ("tune", "zh"): "zf_xiaoyi zm_yunxia",
    ("test", "zh"): "zf_xiaoxiao zm_yunyang",
}
SETS = ("train", "train", "train", "train", "train", "tune", "tune", "test", "test", "test")
"""A sentence's set, by its hash: 50, 20 and 30 %."""
FILLERS = {"en": ("um,", "uh,", "er,", "you know,"), "zh": ("嗯，", "那个，", "就是，")}
INSIDE, FILLED, SENTENCE = 0.55, 0.7, 0.8
"""Median pause inside a sentence, after a filler, and between sentences of a turn, in seconds
(log-normal, as Campione and Veronis 2002 find; the whole spread is SPREAD, cut to LIMITS)."""
SPREAD, PACE_SPREAD = 0.5, 0.35
LIMITS = (0.2, 2.5)
LAYER_STEP = 1 / 24
SOUNDS = 5
"""Further pauses of a training turn whose sound alone is used."""
PAUSE_MS, AFTER = 96, 0.2
"""As the product hears: silence that makes a pause, and what is recognised with the speech."""


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    asked: str
    kind: str
    language: str
    subset: str
    voice: str
    speed: float
    pauses: tuple[int, ...]
    """Characters of the text after which the caller pauses, ascending; the last is its end."""
    cuts: tuple[int, ...]
    """The same for pauses that only one recording of the turn has."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known at one pause, and what came of it."""

    turn: str
    """A hash that all pauses of a sentence share."""
    subset: str
    kind: str
    language: str
    voice: str
    said: str
    """What the turn really was, up to the pause."""
    over: int
    """1: the turn was over. 0: it went on."""
    sentence: int
    """1: a sentence was finished here, whether the turn was or not."""
    length: float
    """Seconds of the pause, of a turn that went on; 0 of one that was over."""
    asked: str
    heard: str
    ends: str
    """What the language model gives for the end of a sentence there; empty until it is asked
    (scripts/rate_endpointing.py)."""
    completeness: float
    """Smart Turn's own answer."""
    layer: str
    """Its inner layer, shape (256,), as base64 of signed bytes of LAYER_STEP."""
    speech: float
    own: str
    """The caller's latest pauses in seconds, blanks between."""
    drop: float
    coda: float


def turns() -> Iterator[Turn]:
    for group in tomllib.loads(TURNS.read_text("utf-8"))["groups"]:
        for line in group["lines"].strip().splitlines():
            yield _turn(line, group["name"], group["language"], group["asked"])


def _seed(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


def _turn(line: str, kind: str, language: str, asked: list[str]) -> Turn:
    random = _seed(line)
    question, arrow, marked = line.rpartition("->")
    subset = SETS[zlib.crc32(marked.strip().encode()) % len(SETS)]
    text, pauses = _unmarked(marked.strip(), language)
    if not pauses and len(_ends(text, language)) > 5 and random.random() < 0.35:
        text, pauses = _hesitant(text, language, random)
    free = [end for end in _ends(text, language)[1:-1] if end not in pauses]
    cuts = random.permutation(free)[: 2 if len(free) > 4 else 0].tolist()
    return Turn(
        text=text,
        asked=question.strip() if arrow else str(random.choice(asked)),
        kind=kind,
        language=language,
        subset=subset,
        voice=str(random.choice(VOICES[subset, language].split())),
        speed=round(float(random.uniform(0.8, 1.25)), 2),
        pauses=(*pauses, len(text)),
        cuts=tuple(sorted(cuts)),
    )


def _unmarked(marked: str, language: str) -> tuple[str, list[int]]:
    """The text without its " / ", and where those were."""
    parts = [part.strip() for part in marked.split("/")]
    gap = "" if language == "zh" else " "
    ends = np.cumsum([len(part) + len(gap) for part in parts]) - len(gap)
    return gap.join(parts), ends[:-1].tolist()


def _ends(text: str, language: str) -> list[int]:
    """Where each word ends, its punctuation with it."""
    if language == "en":
        return [match.end() for match in re.finditer(r"\S+", text)]
    ends = np.cumsum([len(word) for word in jieba.cut(text)]).tolist()
    return [end for end in ends if text[end : end + 1] not in tuple("，。？！、")]


def _hesitant(text: str, language: str, random: np.random.Generator) -> tuple[str, list[int]]:
    """The text with a filler or a repeated word somewhere inside, and a pause behind it."""
    at = int(random.choice(_ends(text, language)[1:-2]))
    before, after = text[:at], text[at:].lstrip()
    gap = "" if language == "zh" else " "
    if language == "en" and random.random() < 0.3:
        before += ", " + before.split()[-1].strip(",") + "..."
    else:
        before = before.rstrip(",，") + {"en": ", ", "zh": "，"}[language]
        before += str(random.choice(FILLERS[language]))
    return before + gap + after, [len(before)]


# --- sound --------------------------------------------------------------------------------


@cache
def _kokoro() -> Synthesizer:
    return KokoroSynthesizer(locate("kokoro"), threads=1)


@cache
def _piper() -> Synthesizer:
    return PiperSynthesizer(locate("piper-joe"))


def speak(turn: Turn) -> tuple[Audio, list[tuple[int, float]]]:
    """The turn at RATE without its pauses, and (characters, seconds) of each word's end."""
    synthesizer = _piper() if turn.voice == "joe" else _kokoro()
    pieces, ends, samples = [], [], 0
    for speech in synthesizer.synthesize(turn.text, voice=turn.voice, speed=turn.speed):
        ends += [
            (mark.chars, (samples + mark.samples) / synthesizer.sample_rate)
            for mark in speech.marks
        ]
        pieces.append(speech.pcm)
        samples += len(speech.pcm)
    resampler = Resampler(synthesizer.sample_rate, RATE)
    audio = np.concatenate([resampler.push(to_float(np.concatenate(pieces))), resampler.flush()])
    return audio, ends


# --- signals ------------------------------------------------------------------------------


@cache
def _models() -> tuple[SileroVad, SmartTurn, WhisperRecognizer]:
    return (
        SileroVad(locate("silero-vad")),
        SmartTurn(locate("smart-turn")),
        WhisperRecognizer(locate("whisper-base"), threads=1),
    )


def rows(turn: Turn, speech: Audio, ends: list[tuple[int, float]]) -> Iterator[Row]:
    """One row a pause, and two for the end, in different noise."""
    random = _seed(turn.text + turn.voice)
    pace = float(np.exp(random.normal(0, PACE_SPREAD)))
    lengths = {at: _length(turn, at, pace, random) for at in turn.pauses[:-1]}
    for number, at in enumerate(sorted([*turn.pauses, *turn.cuts, turn.pauses[-1]])):
        random = _seed(f"{turn.text} {turn.voice} {number}")
        length = lengths.get(at) or _length(turn, at, pace, random)
        own = [pace * INSIDE * float(np.exp(random.normal(0, SPREAD)))
               for _ in range(random.integers(0, 5))]  # fmt: skip
        audio = roughened(_until(at, turn, speech, ends, lengths), random)
        if row := _row(turn, at, audio):
            pauses = " ".join(f"{min(max(value, LIMITS[0]), LIMITS[1]):.2f}" for value in own)
            yield replace(row, length=0 if row.over else round(length, 3), own=pauses)


def sounds(turn: Turn, speech: Audio, ends: list[tuple[int, float]]) -> Iterator[Row]:
    """Further pauses of a training turn, of the kind `sound`: they cost little, as nobody reads
    their words, and the readout of Smart Turn's layer has many weights to learn."""
    random = _seed(f"{turn.text} {turn.voice} sounds")
    free = [end for end in _ends(turn.text, turn.language)[:-1]
            if end not in turn.pauses + turn.cuts]  # fmt: skip
    for at in [*random.permutation(free)[:SOUNDS].tolist(), turn.pauses[-1]]:
        audio = roughened(_until(at, turn, speech, ends, {}), random)
        if row := _row(replace(turn, kind="sound"), at, audio):
            yield row


def _row(turn: Turn, at: int, audio: Audio) -> Row | None:
    """The row of a pause after `at` characters, but for the lengths of pauses."""
    found = _signals(audio, words=turn.kind != "sound")
    if found is None:
        return None
    heard, (completeness, layer), seconds, shape = found
    return Row(
        turn=f"{zlib.crc32(turn.text.encode()):08x}", subset=turn.subset, kind=turn.kind,
        language=turn.language, voice=turn.voice, said=turn.text[:at],
        over=int(at == turn.pauses[-1]), sentence=int(_finished(turn.text[:at])), length=0,
        asked=turn.asked, heard=heard, ends="",
        completeness=round(completeness, 4), layer=_packed(layer), speech=round(seconds, 2), own="",
        **{name: round(value, 3) for name, value in asdict(shape).items()},
    )  # fmt: skip


def _finished(text: str) -> bool:
    return text.endswith(tuple(".?!。？！")) and not text.endswith("...")


def _length(turn: Turn, at: int, pace: float, random: np.random.Generator) -> float:
    """Seconds of a pause after `at` characters."""
    before = turn.text[:at]
    filled = before.endswith(("...", *FILLERS["en"], *FILLERS["zh"]))
    middle = FILLED if filled else SENTENCE if _finished(before) else INSIDE
    return float(np.clip(middle * pace * np.exp(random.normal(0, SPREAD)), *LIMITS))


def _until(
    at: int, turn: Turn, speech: Audio, ends: list[tuple[int, float]], lengths: dict[int, float]
) -> Audio:
    """The turn's audio up to `at` characters with its earlier pauses, and a second of silence."""
    pieces, start = [silent(0.3)], 0
    for stop in sorted({at, *(pause for pause in lengths if pause < at)}):
        end = len(speech) if stop == len(turn.text) else round(_second(stop, ends) * RATE)
        if end > start + RATE // 20:
            pieces += [faded(speech[start:end]), silent(lengths.get(stop, 1.0))]
            start = end
    pieces[-1] = silent(1.0)
    return np.concatenate(pieces)


def _second(at: int, ends: list[tuple[int, float]]) -> float:
    """When the word that ends at `at` characters has been said."""
    return next((second for chars, second in ends if chars >= at), ends[-1][1])


def _packed(layer: Audio | None) -> str:
    if layer is None:
        raise SpeechError("expected the Smart Turn export that speech/endpoint.py knows")
    steps = np.clip(np.rint(layer / LAYER_STEP), -128, 127).astype(np.int8)
    return base64.b64encode(steps.tobytes()).decode()


def _signals(
    audio: Audio, *, words: bool
) -> tuple[str, tuple[float, Audio | None], float, Prosody] | None:
    """Of audio, shape (n,), with silence at its end: its words if asked for, what Smart Turn makes
    of it, seconds of speech and prosody at its last pause. None where no speech is noticed."""
    vad, endpointer, recognizer = _models()
    stream, segmenter = vad.open(), Segmenter(pause_ms=PAUSE_MS)
    first = onset = end = 0
    seconds = 0.0
    for at in range(0, len(audio) - FRAME + 1, FRAME):
        event = segmenter.push(stream.probability(audio[at : at + FRAME]))
        if isinstance(event, SpeechStarted):
            onset = event.at
            first = first or event.from_sample + 1
        elif isinstance(event, SpeechPaused):
            end = event.at
            seconds += (end - onset) / RATE
    if not seconds:
        return None
    # No silence behind the speech: the more of it, the surer is Smart Turn of any turn's end.
    layers = endpointer.layers(audio[max(first, end - 8 * RATE) : end])
    text = recognizer.transcribe(audio[first : end + int(AFTER * RATE)]).text if words else ""
    shape = prosody(audio[max(first, end - int(WINDOW * RATE)) : end])
    return text, layers, seconds, shape


# --- the table ----------------------------------------------------------------------------


def _made(turn: Turn, work: Path) -> list[Row]:
    """The turn's rows, made now or before, and kept in `work`."""
    key = _key(turn, work)
    made = _kept(key.with_suffix(".rows.json"), lambda: rows(turn, *_speech(turn, key)))
    if turn.subset == "train":
        for speaker in (turn, _again(turn)):
            made += _sounds(speaker, _key(speaker, work))
    return made


def _sounds(turn: Turn, key: Path) -> list[Row]:
    return _kept(key.with_suffix(".sounds.json"), lambda: sounds(turn, *_speech(turn, key)))


def _again(turn: Turn) -> Turn:
    """The same, said by somebody else at another speed."""
    random = _seed(f"{turn.text} again")
    others = [voice for voice in VOICES[turn.subset, turn.language].split() if voice != turn.voice]
    speed = round(float(random.uniform(0.8, 1.25)), 2)
    return replace(turn, voice=str(random.choice(others)), speed=speed)


def _key(turn: Turn, work: Path) -> Path:
    return work / f"{zlib.crc32(repr(turn).encode()):08x}"


def _kept(path: Path, make: Callable[[], Iterator[Row]]) -> list[Row]:
    if path.exists():
        return [Row(**row) for row in json.loads(path.read_text("utf-8"))]
    made = list(make())
    path.write_text(json.dumps([asdict(row) for row in made], ensure_ascii=False), "utf-8")
    return made


def _speech(turn: Turn, key: Path) -> tuple[Audio, list[tuple[int, float]]]:
    sound, marks = key.with_suffix(".flac"), key.with_suffix(".json")
    if not marks.exists():
        speech, ends = speak(turn)
        soundfile.write(sound, speech, RATE, subtype="PCM_16")
        marks.write_text(json.dumps(ends))
    speech, _ = soundfile.read(sound, dtype="float32")
    return speech, [(int(chars), float(second)) for chars, second in json.loads(marks.read_text())]


def write(table: list[Row]) -> None:
    """Without the time in it, so that the same rows are the same file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows(asdict(row).values() for row in table)
    TABLE.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main(now: Callable[[], float] = clock) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "endpointing")
    arguments = parser.parse_args()
    jieba.setLogLevel(logging.WARNING)
    arguments.work.mkdir(parents=True, exist_ok=True)
    stop, table, missing = now() + 60 * arguments.minutes, [], 0
    # In the order of their hashes, so that a part of the work is a fair sample of all of it.
    for turn in track(sorted(turns(), key=lambda turn: zlib.crc32(turn.text.encode()))):
        last = _again(turn) if turn.subset == "train" else turn
        done = "sounds" if turn.subset == "train" else "rows"
        if now() > stop and not _key(last, arguments.work).with_suffix(f".{done}.json").exists():
            missing += 1
            continue
        try:
            table += _made(turn, arguments.work)
        except SpeechError as error:
            print(f"left out, {error}: {turn.text}")
    write(table)
    print(f"{len(table)} pauses in {TABLE.name}; {missing} turns are still to be made")


if __name__ == "__main__":
    main()
