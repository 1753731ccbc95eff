"""How the page and the kiosk look: to everybody, in both languages, to one visitor at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe

from browser import CHROMIUM, MISSING, chromium, timeline
from tests.pages import expect, opened, state, telling, write

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    silence: Path = tmp_path_factory.mktemp("microphone") / "silence.wav"
    timeline(silence)
    async with chromium(silence) as browser:
        yield browser


async def faults(page: Any) -> list[str]:
    """What axe-core finds serious or critical, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        results = await Axe().run(page)
        found += [
            f"{scheme}: {fault['id']} at {[node['target'] for node in fault['nodes']]}"
            for fault in results.response["violations"]
            if fault["impact"] in {"serious", "critical"}
        ]
    return found


async def test_axe_finds_no_serious_fault_at_any_time_of_a_call(browser: Any) -> None:
    async with opened(browser, telling("one two three four five six seven eight.")) as (page, _, _):
        assert await faults(page) == []
        await write(page, "count")
        await expect(page.locator("#captions .me .said").first).to_be_visible()
        await write(page, "stop")
        await expect(page.locator("#captions del")).not_to_be_empty()
        assert await faults(page) == []
        await page.click("#settings-open")
        assert await faults(page) == []
        await page.click("#settings-form button")
        await page.click("#compose [name=picture]")
        assert await faults(page) == []
        await page.keyboard.press("Escape")
        await page.click("#call")
        await page.click("#after summary")
        assert await faults(page) == []


async def test_axe_can_find_a_fault(browser: Any) -> None:
    async with opened(browser) as (page, _, _):
        await page.evaluate("document.querySelector('#call span').remove()")
        assert [fault.split()[1] for fault in await faults(page)] == ["button-name"] * 2


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_wider_than_the_screen(browser: Any, width: int) -> None:
    viewport = {"width": width, "height": 640}
    async with opened(browser, telling("one two three."), viewport=viewport) as (page, _, _):
        await write(page, "a-word-without-an-end-" * 20)
        await state(page, "Conch is speaking")
        await state(page, "Listening")
        await page.click("#call")
        await page.click("#after summary")
        for size in ("", "4"):
            await page.evaluate(f"document.documentElement.dataset.size = '{size}'")
            sides = await page.evaluate(
                "[document.documentElement, document.getElementById('talk')]"
                ".map((one) => one.scrollWidth - one.clientWidth)"
            )
            assert sides == [0, 0]


async def test_nothing_of_a_visitor_is_left_for_the_next(browser: Any) -> None:
    path = "kiosk?silence=8"
    async with opened(browser, path=path, permissions=["microphone"]) as (page, served, _):
        await page.click("#start")
        await state(page, "Listening")
        (first,) = served.service.calls
        await expect(page.locator("#ending")).to_be_visible()
        await expect(page.locator("#countdown")).to_contain_text("I hang up in 4 s")
        await page.click("#stay")
        await expect(page.locator("#ending")).to_be_hidden()
        await expect(page.locator("#attract")).to_be_visible()
        assert first.gone
        kept = await page.evaluate(
            "[localStorage.length, sessionStorage.length, document.cookie, location.search,"
            " ...['caller', 'reply', 'announcer'].map((i) => document.getElementById(i).innerText)"
            "]"
        )
        assert kept == [0, 0, "", "?silence=8", "", "", ""]
        await page.click("#start")
        await state(page, "Listening")
        (second,) = served.service.calls
        assert second is not first
        await page.click("#end")
        await expect(page.locator("#attract")).to_be_visible()


async def test_axe_finds_no_serious_fault_at_the_kiosk(browser: Any) -> None:
    async with opened(browser, path="kiosk?silence=60&lang=zh") as (page, _, _):
        await expect(page.locator("#invitation")).to_have_text("轻触开始对话")
        assert await faults(page) == []
        await page.click("#start")
        await expect(page.locator("#reply")).to_have_text("我在听，请说。")
        assert await faults(page) == []


async def test_nobody_has_had_the_floor_for_as_long_as_the_clock_says(browser: Any) -> None:
    async with opened(browser, path="kiosk") as (page, _, _):
        left = await page.evaluate(
            """async () => {
              const { Quiet } = await import("/quiet.js");
              const quiet = new Quiet(1000);
              quiet.floor(false, 5000);
              const before = [quiet.left(5000), quiet.left(5400), quiet.left(9000)];
              quiet.floor(true, 5500);
              return [...before, quiet.left(9000)];
            }"""
        )
        assert left == [1000, 600, 0, 1000]


async def test_messages_are_kept_until_there_are_too_many(browser: Any) -> None:
    async with opened(browser, path="kiosk") as (page, _, _):
        kept = await page.evaluate(
            """async () => {
              const { Backlog } = await import("/backlog.js");
              const backlog = new Backlog();
              for (let i = 1; i <= 1700; i++) backlog.add(String(i));
              const from = (count) => [backlog.after(count)[0], backlog.after(count).length];
              return [from(1600), from(0), from(1700)];
            }"""
        )
        assert kept == [["1601", 100], ["101", 1600], [None, 0]]
