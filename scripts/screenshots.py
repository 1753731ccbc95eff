"""Take the pictures of docs/page.md: moments of a real call, whose caller speaks and writes.

python scripts/screenshots.py   (Chromium, the fetched models, and a font that knows Chinese)
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from rich.console import Console

from assistant.clients.caller import questions
from assistant.clients.demo import server
from browser import chromium, timeline

OUT = Path(__file__).parent.parent / "docs/page"
CONFIG = '[llm]\nmodel = "qwen2.5-coder-0.5b"\ntemperature = 0.0\n[tts]\nengine = "piper"\n'
SIZES = {"phone": (360, 740), "desktop": (1100, 700)}
SCHEMES = ("light", "dark")
STORY = "Please tell me a long story about an old lighthouse by the sea."
STOP = "Wait, stop. How many months are there in a year?"
_COLOURS = 96
_LIMIT_MS = 180_000
_HEARD_MS = 5000
"""Of the story, before it is interrupted."""


async def shoot(page: Any, name: str) -> None:
    await page.evaluate("document.activeElement.matches('input') && document.activeElement.blur()")
    image = Image.open(io.BytesIO(await page.screenshot()))
    image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
        OUT / f"{name}.png", optimize=True
    )


async def shoot_all(page: Any, name: str) -> None:
    for size, (width, height) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await page.evaluate("document.getElementById('talk').scrollTop = 1e6")
            await shoot(page, f"{name}-{size}-{scheme}")


async def said(page: Any, count: int) -> None:
    """Wait until so many answers are over."""
    await page.wait_for_selector(f"#captions .me >> nth={count - 1}", timeout=_LIMIT_MS)
    await page.wait_for_selector("#floor[data-state=listening]", timeout=_LIMIT_MS)


async def call(page: Any, address: str) -> None:
    """The page: a question, a story that is interrupted, and what is left of the call."""
    await page.goto(address)
    await page.click("#call")
    await said(page, 1)
    for text, nth in ((STORY, 2), (STOP, 3)):
        await page.fill("#compose input", text)
        await page.press("#compose input", "Enter")
        await page.wait_for_selector(f"#captions .me >> nth={nth - 1}", timeout=_LIMIT_MS)
        await page.wait_for_selector("#floor[data-state=me]", timeout=_LIMIT_MS)
        if text == STORY:
            await page.wait_for_timeout(_HEARD_MS)
    await page.wait_for_selector("#captions .me del", timeout=_LIMIT_MS)
    await shoot_all(page, "call")
    await page.wait_for_selector("#floor[data-state=listening]", timeout=_LIMIT_MS)
    await page.click("#call")
    await page.click("#after summary")
    await shoot_all(page, "after")
    await page.click("#settings-open")
    await page.select_option("#set-page", "zh")
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.emulate_media(color_scheme="light")
    await shoot(page, "settings-phone-chinese")
    await page.click("#settings-form button")
    await page.evaluate("document.getElementById('talk').scrollTop = 1e6")
    await shoot(page, "after-phone-chinese")


async def kiosk(page: Any, address: str) -> None:
    """The kiosk: its invitation, and an answer."""
    await page.set_viewport_size({"width": 1280, "height": 720})
    await page.goto(f"{address}kiosk")
    await page.wait_for_selector("#start:enabled")
    await shoot(page, "kiosk-invitation")
    await page.emulate_media(color_scheme="dark")
    await page.click("#start")
    await page.wait_for_selector("#floor[data-state=me]", timeout=_LIMIT_MS)
    await page.wait_for_selector("#reply .said")
    await shoot(page, "kiosk-call")


async def main() -> None:
    OUT.mkdir(exist_ok=True)
    (question,) = (q for q in questions() if (q.name, q.voice) == ("france", "am_michael"))
    with tempfile.TemporaryDirectory() as folder:
        config, microphone = Path(folder) / "conch.toml", Path(folder) / "caller.wav"
        config.write_text(CONFIG)
        timeline(microphone, (2, question.audio()))
        async with (
            server(Console(quiet=True), "--config", str(config)) as url,
            chromium(microphone) as browser,
        ):
            for visit in (call, kiosk):
                page = await browser.new_page(locale="en-US")
                await visit(page, f"http://{urlsplit(url).netloc}/")
                await page.close()


if __name__ == "__main__":
    asyncio.run(main())
