"""The speech stages with their real models: what one of them says, another must hear."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from typing import TYPE_CHECKING

import jiwer
import numpy as np
import pytest
import soxr

from assistant.clients.line import RATE as LINE_RATE
from assistant.models import locate
from kiosk_wake import Ear
from speech.asr import WhisperRecognizer, once, repeats
from speech.audio import Resampler, to_float
from speech.endpoint import SmartTurn
from speech.interfaces import FRAME, RATE, Audio, SpeechError, Synthesizer
from speech.segmenter import Segmenter, SpeechPaused, SpeechStarted
from speech.tts import measure
from speech.tts.kokoro import KokoroSynthesizer
from speech.tts.piper import PiperSynthesizer
from speech.tts.shape import with_output, word_ends
from speech.tts.text import sentences, spoken_words
from speech.vad import SileroVad

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from speech.interfaces import Speech

SENTENCES = (
    "The morning train was late again, so we walked along the river.",
    "Could you tell me how to get to the nearest station?",
    "I would like a cup of tea with a little milk, please.",
    "She plays the violin every evening after dinner.",
    "The weather will be cold and windy tomorrow afternoon.",
)
CUT_OFF = (
    ("What is the weather like today?", "What is the weather like on the"),
    ("I would like to book a table.", "I would like to book a table for"),
    ("Please call my sister.", "Please call my sister and tell her that"),
    ("How do I get to the station?", "How do I get to the station from"),
    ("That is all I need, thank you.", "I think I also need some"),
    ("Turn off the kitchen light.", "Turn off the kitchen light and the"),
    ("My name is Sarah Miller.", "My name is"),
    ("I lost my keys in the garden.", "I lost my keys because I was"),
)


@cache
def whisper() -> WhisperRecognizer:
    return WhisperRecognizer(locate("whisper-base"), threads=2)


@cache
def piper() -> PiperSynthesizer:
    return PiperSynthesizer(locate("piper-joe"), threads=2)


@cache
def kokoro() -> KokoroSynthesizer:
    return KokoroSynthesizer(locate("kokoro"), threads=2)


def spoken(synth: Synthesizer, text: str, voice: str = "") -> Audio:
    """The whole text at RATE, as a microphone would give it."""
    return pieced(synth, list(synth.synthesize(text, voice=voice)))


def pieced(synth: Synthesizer, speeches: list[Speech]) -> Audio:
    pcm = np.concatenate([speech.pcm for speech in speeches])
    resampler = Resampler(synth.sample_rate, RATE)
    return np.concatenate([resampler.push(to_float(pcm)), resampler.flush()])


def plain(text: str) -> str:
    return re.sub(r"[^\w ]", "", text.lower())


def noise(seconds: float, level: float, seed: int = 0) -> Audio:
    samples = np.random.default_rng(seed).normal(0, level, int(seconds * RATE))
    return samples.astype(np.float32)


def test_whisper_hears_what_piper_says() -> None:
    heard = [whisper().transcribe(spoken(piper(), text), language="en") for text in SENTENCES]
    rate = jiwer.wer([plain(text) for text in SENTENCES], [plain(one.text) for one in heard])
    assert rate < 0.15
    assert min(one.confidence for one in heard) > 0.5


@pytest.mark.parametrize("voice", ["af_heart", "am_michael", "bf_emma", "bm_george"])
def test_whisper_hears_what_kokoro_says(voice: str) -> None:
    heard = whisper().transcribe(spoken(kokoro(), SENTENCES[1], voice))
    assert heard.language == "en"
    assert jiwer.wer(plain(SENTENCES[1]), plain(heard.text)) < 0.15


def test_chinese_there_and_back_whatever_voice_is_asked_for() -> None:
    heard = whisper().transcribe(spoken(kokoro(), "今天下午天气很好。", "af_heart"))
    assert heard.language == "zh"
    assert jiwer.cer("今天下午天气很好", plain(heard.text)) < 0.3


def test_tiny_hears_single_words_once() -> None:
    tiny = WhisperRecognizer(locate("whisper-tiny.en"), threads=2)
    for word in ("Stop.", "Yes.", "Hello."):
        # Kokoro says a word the same way every time; Piper does not.
        assert plain(tiny.transcribe(spoken(kokoro(), word)).text) == plain(word)


def test_whisper_is_silent_on_silence_and_noise() -> None:
    assert whisper().transcribe(np.zeros(2 * RATE, np.float32)).text == ""
    for seconds, level in ((1, 0.003), (2, 0.01), (4, 0.05), (2, 0.2)):
        assert whisper().transcribe(noise(seconds, level), language="en").text == ""


def test_words_have_times_in_order_within_the_audio() -> None:
    audio = spoken(piper(), SENTENCES[2])
    words = whisper().transcribe(audio, language="en", word_times=True).words
    assert len(words) == len(SENTENCES[2].split())
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert len(audio) / RATE - 0.5 < edges[-1] <= len(audio) / RATE


def test_whisper_refuses_what_it_cannot_take() -> None:
    with pytest.raises(SpeechError, match="at most 30 s"):
        whisper().transcribe(np.zeros(31 * RATE, np.float32))
    with pytest.raises(SpeechError, match="got 'klingon'"):
        whisper().transcribe(noise(1, 0.1), language="klingon")


def test_a_full_window_of_speech_is_taken() -> None:
    audio = np.tile(spoken(piper(), SENTENCES[0]), 10)[: 30 * RATE]
    assert "river" in whisper().transcribe(audio, language="en").text


def test_loops_are_known_from_speech() -> None:
    assert repeats("Stop. Stop. Stop. Stop")
    assert repeats("and so on and so on and so on")
    assert not repeats("No, no. I said two tickets, two!")
    assert once("I lost my keys today. I lost my keys") == "I lost my keys today."
    assert once("how are you how are you") == "how are you how are you"


def test_vad_finds_the_speech_between_silence_and_noise() -> None:
    voice = spoken(piper(), SENTENCES[0])
    audio = np.concatenate([noise(1, 0.0005), voice, noise(2, 0.01)])
    stream, segmenter = SileroVad(locate("silero-vad")).open(), Segmenter()
    frames = [audio[at : at + FRAME] for at in range(0, len(audio) - FRAME, FRAME)]
    events = [event for frame in frames if (event := segmenter.push(stream.probability(frame)))]
    first, last = events[0], events[-1]
    assert isinstance(first, SpeechStarted)
    assert isinstance(last, SpeechPaused)
    assert abs(first.at - RATE) < RATE // 5
    assert abs(last.at - RATE - len(voice)) < RATE // 3
    with pytest.raises(SpeechError, match=r"\(512,\), got \(160,\)"):
        stream.probability(np.zeros(160, np.float32))


def test_smart_turn_tells_the_finished_from_the_cut_off() -> None:
    turn = SmartTurn(locate("smart-turn"))

    def score(text: str) -> float:
        # Up to the end of speech: a synthesiser's piece has 0.12 s of silence behind it.
        return turn.completeness(spoken(piper(), text)[: -RATE // 10])

    whole = [score(complete) for complete, _ in CUT_OFF]
    cut = [score(incomplete + ", um,") for _, incomplete in CUT_OFF]
    assert np.mean(whole) > np.mean(cut) + 0.2
    with pytest.raises(SpeechError, match=r"got \(0,\)"):
        turn.completeness(np.zeros(0, np.float32))


def test_a_smart_turn_that_the_readout_was_not_fitted_on_answers_for_itself(tmp_path: Path) -> None:
    audio = spoken(piper(), "Where is the station?")[: -RATE // 10]
    own, layer = SmartTurn(locate("smart-turn")).layers(audio)
    assert layer is not None
    (tmp_path / "other.onnx").write_bytes(with_output(locate("smart-turn").read_bytes(), "gelu_7"))
    other = SmartTurn(tmp_path / "other.onnx")
    assert other.layers(audio) == (pytest.approx(own, abs=1e-6), None)
    assert other.completeness(audio) == pytest.approx(own, abs=1e-6)


def check_marks(text: str, speeches: list[Speech]) -> None:
    marks = [mark for speech in speeches for mark in speech.marks]
    assert [mark.chars for mark in marks] == sorted({mark.chars for mark in marks})
    assert marks[-1].chars == len(text)
    for speech in speeches:
        ends = [mark.samples for mark in speech.marks]
        assert ends == sorted(ends)
        assert ends[0] > 0
        assert ends[-1] <= len(speech.pcm)


@pytest.mark.parametrize("make", [piper, kokoro])
def test_marks_are_where_the_words_end(make: Callable[[], Synthesizer]) -> None:
    synth = make()
    first, second = "We walked along the river of the town.", " It cost **$5.50**"
    speeches = list(synth.synthesize(first + second))
    check_marks(first + second, speeches)
    speeches = [speech for speech in speeches if speech.marks[-1].chars <= len(first)]
    assert speeches[-1].marks[-1].chars == len(first)
    audio = pieced(synth, speeches)
    heard = whisper().transcribe(audio, language="en", word_times=True).words
    ends, before = [], 0
    for speech in speeches:
        ends += [(before + mark.samples) / synth.sample_rate for mark in speech.marks]
        before += len(speech.pcm)
    assert len(heard) == len(ends)
    errors = [abs(word.end - end) for word, end in zip(heard, ends, strict=True)]
    assert np.median(errors) < 0.12


def test_piper_gives_the_first_words_before_the_rest_and_nobody_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = locate("piper-joe")
    settings = json.loads(voice.with_name(voice.name + ".json").read_text())
    settings["inference"] |= {"noise_scale": 0, "noise_w": 0}  # it says everything alike
    (tmp_path / voice.name).symlink_to(voice)
    (tmp_path / f"{voice.name}.json").write_text(json.dumps(settings))
    synth = PiperSynthesizer(tmp_path / voice.name)
    first, *more = synth.synthesize(SENTENCES[0])
    whole = np.concatenate([first.pcm, *(speech.pcm for speech in more)])
    assert 0.3 * synth.sample_rate < len(first.pcm) < len(whole) / 3
    monkeypatch.setattr("speech.tts.piper._FIRST", 60)
    (at_once,) = synth.synthesize(SENTENCES[0])
    # What counts as silence around it depends on the loudest of a step.
    off = synth.sample_rate // 100
    shared = whole[off : -2 * off].astype(int)
    apart = [np.abs(at_once.pcm[at : at + len(shared)] - shared).max() for at in range(2 * off + 1)]
    assert min(apart) < 10


def test_piper_speaks_about_as_loudly_whatever_it_says() -> None:
    def loudness(text: str) -> float:
        return float(np.sqrt(np.mean(spoken(piper(), text) ** 2)))

    levels = [loudness(text) for text in ("Yes, of course.", *SENTENCES)]
    assert max(levels) < 2 * min(levels)
    assert 0.05 < np.median(levels) < 0.12


@pytest.mark.parametrize("make", [piper, kokoro])
def test_little_silence_surrounds_the_speech(make: Callable[[], Synthesizer]) -> None:
    synth = make()
    (speech,) = synth.synthesize("Sure.")
    loud = np.flatnonzero(np.abs(speech.pcm.astype(int)) > 0.05 * np.abs(speech.pcm).max())
    assert loud[0] <= 0.05 * synth.sample_rate
    assert len(speech.pcm) - loud[-1] <= 0.25 * synth.sample_rate


@pytest.mark.parametrize("make", [piper, kokoro])
def test_nothing_to_say_and_bad_speeds(make: Callable[[], Synthesizer]) -> None:
    synth = make()
    for text in ("", "  \n", "🙂", "**", "...", "—"):
        assert list(synth.synthesize(text)) == []
    # Long enough that Piper's chance rhythm does not matter.
    text = "One, two, three, four, five, six, seven, eight, nine, ten, eleven and twelve."
    slow, fast = (
        sum(len(part.pcm) for part in synth.synthesize(text, speed=speed)) for speed in (0.8, 1.4)
    )
    assert fast < 0.8 * slow
    with pytest.raises(SpeechError, match="got 9"):
        next(iter(synth.synthesize("Hello.", speed=9)))


def test_an_unknown_voice_is_mapped_and_a_known_one_used() -> None:
    def first(voice: str) -> bytes:
        return next(iter(kokoro().synthesize("Hello.", voice=voice))).pcm.tobytes()

    assert len(first("nobody")) == len(first("af_heart")) != len(first("bm_lewis"))


def test_piper_says_that_it_knows_no_chinese() -> None:
    with pytest.raises(SpeechError, match="got Chinese: '好的"):
        list(piper().synthesize("好的, fine."))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    for make in (WhisperRecognizer, KokoroSynthesizer, SmartTurn, PiperSynthesizer):
        with pytest.raises(SpeechError, match="nowhere"):
            make(tmp_path / "nowhere")


def test_piper_is_faster_than_real_time() -> None:
    assert 0 < measure(piper(), time.perf_counter) < 0.5


def test_markup_is_not_spoken_and_offsets_stay_true() -> None:
    text = "## Plan\n- **First**, see [the docs](http://x.y/z_w) 🙂\n- `snake_case` done"
    words = spoken_words(text)
    assert [word.text for word in words] == [
        "Plan.",
        "First,",
        "see",
        "the",
        "docs.",
        "snake_case",
        "done",
    ]
    assert words[-1].end == len(text)
    assert text[: words[1].end].endswith("**First**,")
    chinese = [word.text for word in spoken_words("我用 iPhone，好。")]
    assert chinese == ["我", "用", "iPhone，", "好。"]


def test_sentences_end_where_they_should() -> None:
    words = spoken_words("Dr. Smith came. Did he? 好的。走吧")
    assert [len(sentence) for sentence in sentences(words)] == [3, 2, 2, 2]


def test_word_ends_survive_words_that_grow_together() -> None:
    ends = word_ends(["kat ", "ʌv ", "ðiː ", "siː"], list("kat ʌvðə siː"), [10] * 12)
    assert ends[0] == 30
    assert ends[1] == pytest.approx(60, abs=10)
    assert ends[2] == pytest.approx(80, abs=10)
    assert ends[3] == 120


def test_what_sounds_like_the_wake_word_hardly_ever_wakes_a_kiosk() -> None:
    ear, synth = Ear("hey_jarvis"), piper()
    wakes = 0
    for _ in range(8):  # no two are spoken alike; it is 2 to 4 of 60
        steps = [speech.pcm for speech in synth.synthesize("Hey, John is this yours?", speed=0.87)]
        wakes += ear.wakes(soxr.resample(np.concatenate(steps), synth.sample_rate, LINE_RATE))
    assert wakes <= 2
