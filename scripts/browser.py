"""Chromium with a recording as its microphone: what the page's tests and pictures are made with."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from assistant.clients.wav import RATE
from speech.interfaces import Pcm

if TYPE_CHECKING:
    from playwright.async_api import Browser

CHROMIUM = shutil.which("chromium")
MISSING = "Chromium is not installed (apt-get install chromium)"
_FLAGS = [
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


@asynccontextmanager
async def chromium(microphone: Path | None = None) -> AsyncIterator[Browser]:
    """A browser whose microphone is that sound file, from its opening to the file's end."""
    from playwright.async_api import async_playwright

    flags = list(_FLAGS)
    if microphone:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


def timeline(path: Path, *lines: tuple[float, Pcm]) -> None:
    """Write a microphone's recording: int16 mono lines at RATE, each at its second."""
    end = RATE + max((int(at * RATE) + len(pcm) for at, pcm in lines), default=0)
    sound = np.zeros(end, np.int16)
    for at, pcm in lines:
        sound[int(at * RATE) : int(at * RATE) + len(pcm)] = pcm
    soundfile.write(path, sound, RATE)
