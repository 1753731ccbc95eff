"""The page in a real browser, against the real server with fake engines, over a network that breaks
when a test says so.

Where nothing is said into a microphone every word is known: the visitor writes, and the
recording that the page makes of its own output is read back word by word."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from assistant.clients.wav import RATE
from assistant.config import Config, ServerConfig
from llm.interfaces import Finished, Prompt, ReplyPart, TextDelta
from tests.fakes import GAP, WORD
from tests.loopback import Loopback, NamedEngines, serving
from tests.proxy import Proxy, proxied

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
expect = playwright.expect
WAIT_MS = 60_000
"""For what takes a second: the browser has to share its cores with whoever else tests."""
expect.set_options(timeout=WAIT_MS)


_NETWORK = re.compile("net::ERR_|^Failed to load resource|^WebSocket connection to")
"""What Chromium says of answers that are refusals and of connections that break: what some tests
are about."""


def telling(text: str) -> NamedEngines:
    """Engines whose model says just that, whatever it is told."""

    def script(prompt: Prompt) -> Iterator[ReplyPart]:
        yield from (TextDelta(part) for part in re.findall(r"\S+\s*", text))
        yield Finished("stop", 10, 5, 4)

    engines = NamedEngines()
    engines.llm.script = script
    return engines


@asynccontextmanager
async def opened(
    browser: Any,
    engines: NamedEngines | None = None,
    server: ServerConfig | None = None,
    path: str = "",
    **options: Any,
) -> AsyncIterator[tuple[Any, Loopback, Proxy]]:
    """The page, its server, and the network between them. No fault of the page goes unseen, nor
    does any request that it makes of anybody else."""
    config = Config(server=server or ServerConfig(port=0))
    engines = engines or NamedEngines()
    async with serving(engines, config) as served, proxied(served.host) as proxy:
        context = await browser.new_context(**{"locale": "en-US", **options})
        page = await context.new_page()
        page.set_default_timeout(WAIT_MS)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        here = (f"http://{proxy.host}/", "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(here) else faults.append(r.url))
        await page.goto(f"{here[0]}{path}")
        yield page, served, proxy
        faults = [fault for fault in faults if not _NETWORK.search(fault)]
        assert not faults, faults
        await context.close()


async def write(page: Any, text: str) -> None:
    await page.fill("#compose input", text)
    await page.press("#compose input", "Enter")


async def state(page: Any, name: str) -> None:
    await expect(page.locator("#state")).to_have_text(name)


async def downloaded(page: Any, name: str) -> bytes:
    """What the link of that name gives."""
    async with page.expect_download() as started:
        await page.click(f"[data-name={name}]")
    path = Path(await (await started.value).path())
    return path.read_bytes()  # noqa: ASYNC240  # a file of the test's own


async def words_played(page: Any, engines: NamedEngines) -> str:
    """What the loudspeaker played, word by word, from the recording that the page offers.

    Where nothing came for a while, there the recording is silent to the bit: that is taken out,
    so that a word which was broken off there and went on later is read as one."""
    sound, rate = soundfile.read(io.BytesIO(await downloaded(page, "wav")), dtype="float32")
    assert rate == RATE
    step = RATE // 1000
    spoken = sound[: len(sound) - len(sound) % step, 1].reshape(-1, step)
    spoken = spoken[np.abs(spoken).max(axis=1) > 0].reshape(-1)
    words = engines.code.text(np.ascontiguousarray(spoken), RATE)
    # Nothing came twice either: the words and the gaps after them, a gap more for each clause.
    seconds = len(spoken) / RATE - len(words.split()) * (WORD + GAP)
    assert 0 < seconds < 0.5, f"{seconds} s too many for {words!r}"
    return words
