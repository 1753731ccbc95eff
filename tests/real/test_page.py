"""A whole call on the page: a real browser, a recorded caller in its microphone, real models."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
from rich.console import Console

from assistant.clients.caller import demo, questions
from assistant.clients.demo import server
from assistant.models import locate
from browser import CHROMIUM, MISSING, chromium, timeline
from speech.asr import WhisperRecognizer
from speech.interfaces import RATE
from tests.pages import downloaded, expect, state
from tests.proxy import Proxy, proxied

CONFIG = """
[llm]
model = "qwen2.5-coder-0.5b"
temperature = 0.0
[tts]
engine = "tests.seeded:Piper"
"""
FRANCE, STORY, STOP, HOLE = 3.0, 14.0, 22.5, 40.0
"""Seconds of the microphone's recording at which the caller says something. The story is asked for
until 17.5, so that it is being told at STOP: some four seconds of it, less on a slow machine. What
a black hole is takes the model over forty words, so that one misheard is one of many."""
MOST_WRONG = 4
"""Words of what was heard of an interrupted reply, against a recognition of what was played: as in
the benchmark of turns (docs/turn-taking.md). The last word may have been cut off."""
END = 75.0
WORDS = jiwer.Compose([jiwer.RemovePunctuation(), jiwer.ToLowerCase(), jiwer.Strip()])


@cache
def whisper() -> WhisperRecognizer:
    return WhisperRecognizer(locate("whisper-base"), threads=2)


def recognised(sound: Any, rate: int, begin: float, end: float) -> str:
    """The words in that stretch of one side of a recording, at most 30 s of it."""
    part = sound[int(begin * rate) : int(end * rate)]
    # Whisper mishears the first words behind seconds of nothing.
    first = max(0, int(np.argmax(np.abs(part) > 0.01)) - rate // 4)
    part = np.ascontiguousarray(part[first:])
    return whisper().transcribe(soxr.resample(part, rate, RATE), language="en").text


def closed_up(sound: Any, rate: int) -> Any:
    """Without the silence that a broken network leaves in the middle of a word: an empty playback
    buffer gives zeros, and of each stretch of them a twentieth of a second stays."""
    longest = rate // 20
    silent = np.concatenate([[0], sound == 0, [0]])
    begins, ends = np.flatnonzero(np.diff(silent) == 1), np.flatnonzero(np.diff(silent) == -1)
    kept = np.ones(len(sound), bool)
    for begin, end in zip(begins, ends, strict=True):
        kept[begin + longest : end] = False
    return sound[kept]


def plain(text: str) -> str:
    return str(WORDS(" ".join(text.split())))


async def said(page: Any, side: str, nth: int) -> str:
    return str(await page.locator(f"#captions .{side} .words").nth(nth).inner_text())


async def broken_and_mended(page: Any, proxy: Proxy) -> None:
    carried = proxy.carried
    proxy.cut()
    await expect(page.locator("#lost")).to_be_visible()
    await expect(page.locator("#lost")).to_be_hidden()
    assert proxy.carried > carried


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
async def test_a_whole_call_with_an_interruption_and_a_network_that_breaks_twice(
    tmp_path: Path,
) -> None:
    lines = {line.name: line for line in questions() if line.voice == "am_michael"} | demo()
    plan = (("france", FRANCE), ("story", STORY), ("stop", STOP), ("hole", HOLE))
    silence = np.zeros(1, np.int16)
    spoken = [(at, lines[name].audio()) for name, at in plan]
    timeline(tmp_path / "caller.wav", *spoken, (END, silence))
    config = tmp_path / "conch.toml"
    config.write_text(CONFIG)
    faults: list[str] = []
    async with (
        server(Console(quiet=True), "--config", str(config)) as url,
        proxied(urlsplit(url).netloc) as proxy,
        chromium(tmp_path / "caller.wav") as browser,
    ):
        page = await browser.new_page(viewport={"width": 900, "height": 700}, locale="en-US")
        page.on("pageerror", lambda error: faults.append(str(error)))
        await page.goto(f"http://{proxy.host}/")
        await page.click("#call")

        # A question, and its answer aloud.
        await expect(page.locator("#captions .you")).to_contain_text("France")
        await state(page, "Conch is speaking")
        await state(page, "Listening")
        assert plain(await said(page, "you", 0)) == plain(lines["france"].text)
        assert "Paris" in await said(page, "me", 0)

        # A story, interrupted: what was not heard of it is struck through.
        await expect(page.locator("#captions .you")).to_have_count(2)
        await state(page, "Conch is speaking")
        await expect(page.locator("#captions .you")).to_have_count(3)
        story = page.locator("#captions .me").nth(1)
        await expect(story.locator("del")).not_to_be_empty()
        heard = await story.locator(".said").inner_text()
        assert len(heard.split()) > 5
        await expect(page.locator("#captions .you").nth(2)).to_contain_text("year")
        assert plain(await said(page, "you", 2)).startswith("wait stop how many months")

        # The network breaks while the caller speaks, and again while Conch does.
        await expect(page.locator("#captions .me")).to_have_count(3)
        await state(page, "Listening")
        await state(page, "You are speaking")
        await broken_and_mended(page, proxy)
        await expect(page.locator("#captions .me")).to_have_count(4)
        assert plain(await said(page, "you", 3)) == plain(lines["hole"].text)
        await state(page, "Conch is speaking")
        await broken_and_mended(page, proxy)
        await state(page, "Listening")
        answer = await said(page, "me", 3)
        await page.click("#call")
        sound, rate = soundfile.read(io.BytesIO(await downloaded(page, "wav")), dtype="float32")
    assert faults == []

    # What was captioned is what the loudspeaker played and the microphone took in.
    began = float(np.flatnonzero(np.abs(sound[:, 0]) > 0.01)[0]) / rate - FRANCE
    caller, conch = sound[:, 0], sound[:, 1]
    assert "France" in recognised(caller, rate, began + FRANCE - 1, began + FRANCE + 4)
    assert "Paris" in recognised(conch, rate, began + FRANCE, began + STORY)
    told = plain(recognised(conch, rate, began + STORY, began + STOP + 1))
    assert jiwer.wer(plain(heard), told) * len(heard.split()) <= MOST_WRONG
    after = closed_up(conch[int((began + HOLE) * rate) :], rate)
    told = plain(recognised(after, rate, 0, 30))
    wanted = plain(answer).split()[: len(told.split())]
    assert len(wanted) > 15, answer
    assert jiwer.wer(" ".join(wanted), told) < 0.25
