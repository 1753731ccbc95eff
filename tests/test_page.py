"""Calls on the page: what is shown, what is heard, what a broken connection does to them."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from assistant.config import ServerConfig
from browser import CHROMIUM, MISSING, chromium
from tests.fakes import FakeReader
from tests.loopback import NamedEngines
from tests.pages import downloaded, expect, opened, state, telling, words_played, write

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
    pytest.mark.asyncio(loop_scope="module"),
]
LONG = "one two three four five six seven, eight nine ten eleven twelve, thirteen fourteen fifteen."
OVER = "The connection is lost and the call is over."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with chromium() as browser:
        yield browser


async def test_what_is_written_is_answered_aloud_and_kept_for_afterwards(browser: Any) -> None:
    engines = NamedEngines()
    async with opened(browser, engines) as (page, _, _):
        await write(page, "good morning")
        await expect(page.locator("#captions .you .words")).to_have_text("good morning")
        await state(page, "Conch is speaking")
        # Nobody was asked for a microphone.
        await expect(page.locator("#mute")).to_have_text("Unmute")
        await state(page, "Listening")
        await page.click("#call")
        answer = "you said good morning. that is all."
        await expect(page.locator("#captions .me .words")).to_have_text(answer)
        assert await words_played(page, engines) == "you said good morning that is all"
        lines = (await downloaded(page, "text")).decode().splitlines()
        said = [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", line) for line in lines]
        assert said == ["You: good morning", f"Conch: {answer}"]
        await page.click("#after summary")
        *server, own = await page.locator("#after tbody tr td").all_inner_texts()
        assert len(server) == 6
        assert int(own) > 0  # the time that the page itself takes


async def test_words_that_nobody_heard_are_struck_through(browser: Any) -> None:
    engines = telling(LONG)
    async with opened(browser, engines) as (page, _, _):
        await write(page, "count")
        await state(page, "Conch is speaking")
        await expect(page.locator("#captions .me .said").first).to_be_visible()
        await asyncio.sleep(1.5)
        await write(page, "stop")
        first = page.locator("#captions .me").first
        await expect(first.locator("del")).not_to_be_empty()
        heard = (await first.locator(".said").inner_text()).split()
        struck = (await first.locator("del").inner_text()).split()
        assert heard
        assert heard + struck == LONG.split()[: len(heard) + len(struck)]
        await page.click("#call")
        # What went to the loudspeaker is what the page says was heard, give or take the word at
        # which it was cut off.
        played = (await words_played(page, engines)).split()
        again = played.index("one", 1) if "one" in played[1:] else len(played)
        assert abs(again - len(heard)) <= 1
        text = (await downloaded(page, "text")).decode()
        assert f"Conch: {' '.join(heard)} ~~{' '.join(struck)}~~" in text


async def test_words_are_grey_until_their_sound_begins(browser: Any) -> None:
    async with opened(browser, telling(LONG)) as (page, _, _):
        await write(page, "count")
        line = page.locator("#captions .me")
        await expect(line.locator(".said").first).to_contain_text("one")
        assert "fifteen" not in "".join(await line.locator(".said").all_inner_texts())
        await state(page, "Listening")
        await expect(line.locator(".coming")).to_have_count(0)


async def test_a_broken_connection_is_taken_up_again_and_no_word_is_lost_or_doubled(
    browser: Any,
) -> None:
    engines = telling(LONG)
    async with opened(browser, engines) as (page, served, proxy):
        await write(page, "count")
        await state(page, "Conch is speaking")
        await asyncio.sleep(1)
        proxy.cut()
        await expect(page.locator("#lost")).to_have_text("Connection lost, trying again…")
        await expect(page.locator("#lost")).to_be_hidden()
        assert len(served.service.calls) == 1
        await state(page, "Listening")
        await page.click("#call")
        assert await words_played(page, engines) == re.sub(r"[,.]", "", LONG)


async def test_what_is_written_while_the_network_is_gone_arrives(browser: Any) -> None:
    async with opened(browser) as (page, _, proxy):
        await write(page, "first")
        await state(page, "Conch is speaking")
        await state(page, "Listening")
        proxy.up = False
        proxy.cut()
        await state(page, "Connection lost")
        await write(page, "second")
        await asyncio.sleep(1)
        proxy.up = True
        await expect(page.locator("#captions .me").last).to_contain_text("you said second")
        assert await page.locator("#captions .me").count() == 2


STUCK = """async () => {
  let buffered = 0;
  const sockets = [];
  window.WebSocket = class {
    constructor() { sockets.push(this); }
    get bufferedAmount() { return buffered; }
    send(message) { buffered += message.length; }
    close(code) { this.code = code; }
  };
  const { Link } = await import("/link.js");
  const lost = new Promise((onLost) => {
    const link = new Link("", { onEvent() {}, onLost });
    link.connect();
    const session = { conch: { resume: { token: "a", grace_s: 30 } } };
    sockets[0].onmessage({ data: JSON.stringify({ type: "session.created", session }) });
    setInterval(() => link.send({ type: "conch.playback" }), 20);
  });
  const began = performance.now();
  await lost;
  return [performance.now() - began, sockets[0].code];
}"""


async def test_a_network_that_is_gone_without_a_word_is_noticed(browser: Any) -> None:
    # A socket that takes everything and lets nothing out; no closing handshake is to end the call.
    async with opened(browser) as (page, _, _):
        milliseconds, code = await page.evaluate(STUCK)
        assert 3900 < milliseconds < 20_000
        assert code == 4001


async def test_a_call_that_the_server_has_given_up_ends_at_once(browser: Any) -> None:
    async with opened(browser) as (page, served, proxy):
        await write(page, "hello")
        await state(page, "Conch is speaking")
        served.service.resumable._lines.clear()
        proxy.cut()
        # Long before the thirty seconds are over in which it might have come back.
        await expect(page.locator("#error")).to_have_text(OVER, timeout=25_000)
        await expect(page.locator("#lost")).to_be_hidden()
        await expect(page.locator("#captions .you .words")).to_have_text("hello")


async def test_a_call_that_cannot_be_resumed_ends_and_keeps_its_transcript(browser: Any) -> None:
    server = ServerConfig(port=0, resume_s=0.0)
    async with opened(browser, server=server) as (page, _, proxy):
        await write(page, "hello")
        await state(page, "Conch is speaking")
        proxy.cut()
        await expect(page.locator("#error")).to_have_text(OVER)
        await expect(page.locator("#after")).to_be_visible()
        await expect(page.locator("#captions .you .words")).to_have_text("hello")
        await expect(page.locator("#call")).to_have_text("Call again")


PASTE = """() => new Promise((done) => {
  const canvas = document.createElement("canvas");
  canvas.width = 3000;
  canvas.height = 1000;
  canvas.toBlob((blob) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([blob], "sign.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
    done();
  });
})"""


async def test_a_picture_that_is_pasted_is_shown_and_sent(browser: Any) -> None:
    engines = NamedEngines()
    seen: list[bytes] = []

    class Reader(FakeReader):
        def read(self, picture: bytes) -> str:
            seen.append(picture)
            return "no entry"

    engines.reader = Reader()
    async with opened(browser, engines) as (page, _, _):
        await page.evaluate(PASTE)
        await expect(page.locator("#compose canvas")).to_be_visible()
        await write(page, "what does it say")
        await expect(page.locator("#captions .you canvas")).to_be_visible()
        await expect(page.locator("#compose .preview")).to_be_hidden()
        await expect(page.locator("#captions .me")).to_contain_text("no entry")
        await page.click("#call")
    (picture,) = seen
    assert picture.startswith(b"\xff\xd8")  # JPEG
    assert Image.open(io.BytesIO(picture)).size == (1600, 533)


async def test_the_key_is_asked_for_by_name_and_the_settings_reach_the_session(
    browser: Any,
) -> None:
    server = ServerConfig(port=0, api_key="sesame")
    async with opened(browser, server=server) as (page, served, _):
        await write(page, "hello")
        await expect(page.locator("#error")).to_contain_text("asks for its API key")
        await page.click("#settings-open")
        await page.fill("#set-key", "sesame")
        await page.select_option("#set-page", "zh")
        await page.select_option("#set-speech", "zh")
        await page.select_option("#set-size", "4")
        await page.click("#settings-form button")
        await expect(page.locator("#call")).to_have_text("再次呼叫")
        await write(page, "hello")
        await state(page, "海螺在说话")
        (line,) = served.service.calls
        assert line.call.settings.language == "zh"
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await expect(page.locator("html")).to_have_attribute("data-size", "4")
        await page.reload()
        await expect(page.locator("#state")).to_have_text("可以呼叫")
