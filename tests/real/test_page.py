"""The page in a real browser, its microphone a recording, its server the real one."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from rich.console import Console

from assistant.clients.caller import questions
from assistant.clients.demo import server
from assistant.clients.wav import RATE

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
ANSWER_MS = 60_000


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
async def test_a_question_into_the_microphone_is_captioned_and_answered(tmp_path: Path) -> None:
    (line,) = (q for q in questions() if (q.name, q.voice) == ("france", "af_heart"))
    speech = np.concatenate([np.zeros(2 * RATE, np.int16), line.audio(), np.zeros(RATE, np.int16)])
    soundfile.write(tmp_path / "caller.wav", speech, RATE)
    microphone = f"--use-file-for-fake-audio-capture={tmp_path / 'caller.wav'}%noloop"
    async with server(Console(quiet=True)) as url, playwright.async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, microphone])
        page = await browser.new_page(viewport={"width": 900, "height": 560})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        await page.goto(f"http://{urlsplit(url).netloc}/")
        await page.click("#call")
        expect = playwright.expect
        await expect(page.locator("#captions .you")).to_contain_text("France", timeout=ANSWER_MS)
        await expect(page.locator("#captions .me")).to_contain_text("Paris", timeout=ANSWER_MS)
        await expect(page.locator("#state")).to_have_text("Conch is speaking", timeout=ANSWER_MS)
        await page.screenshot(path=tmp_path / "page.png")
        await expect(page.locator("#state")).to_have_text("Listening", timeout=ANSWER_MS)
        await page.click("#call")
        await expect(page.locator("#state")).to_have_text("Ready to call")
        await expect(page.locator("#error")).to_be_hidden()
        await browser.close()
    assert faults == []
