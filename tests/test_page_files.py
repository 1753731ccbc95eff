"""The page's files, as they are: complete in both languages, and with nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent / "assistant/web"


def test_both_languages_have_every_text_that_is_used() -> None:
    english, chinese = (
        set(
            re.findall(
                r'^  (?:"([\w.]+)"|(\w+)):', (WEB / f"texts-{name}.js").read_text(), re.MULTILINE
            )
        )
        for name in ("en", "zh")
    )
    assert english == chinese
    names = {quoted or plain for quoted, plain in english}
    pages = "".join(file.read_text() for file in WEB.glob("*.html"))
    code = "".join(file.read_text() for file in WEB.glob("*.js"))
    used = set(re.findall(r'data-(?:text|label|hint)="([\w.]+)"', pages))
    used |= set(re.findall(r'\bt\("([\w.]+)"', code))
    assert used <= names


@pytest.mark.parametrize("name", ["index.html", "kiosk.html"])
def test_a_page_needs_nothing_from_elsewhere_and_has_no_code_in_it(name: str) -> None:
    page = (WEB / name).read_text()
    assert "://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"<script(?! type=\"module\" src=)|\son\w+=|\sstyle=|<style", page)
    for file in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (WEB / file).is_file()
