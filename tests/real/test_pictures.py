"""RapidOCR reads what is drawn, and says what is wrong with what it cannot read."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw, ImageFont

from assistant.pictures import PictureError, RapidReader

SIGN = ("Open daily from 9 to 17", "Closed on Mondays")


def drawn(lines: tuple[str, ...], form: str, size: tuple[int, int] = (800, 300)) -> bytes:
    transparent = form in {"PNG", "WEBP"}
    image = Image.new(
        "RGBA" if transparent else "RGB", size, (0, 0, 0, 0) if transparent else "white"
    )
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=36)
    for number, line in enumerate(lines):
        pen.text((40, 40 + 80 * number), line, fill="black", font=font)
    return saved(image, form)


def saved(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def reader() -> RapidReader:
    return RapidReader(threads=1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_it_reads_what_is_drawn(reader: RapidReader, form: str) -> None:
    assert reader.read(drawn(SIGN, form)) == "\n".join(SIGN)


def test_a_large_picture_is_made_smaller_and_an_empty_one_has_no_text(reader: RapidReader) -> None:
    assert reader.read(drawn(SIGN, "PNG", (3000, 1500))) == "\n".join(SIGN)
    assert reader.read(drawn((), "PNG")) == ""


def test_what_is_no_picture_is_named(reader: RapidReader) -> None:
    whole = drawn(SIGN, "JPEG")
    bomb = saved(Image.new("1", (6000, 6000)), "PNG")
    assert len(bomb) < 10_000
    for file, message in (
        (b"", "got 0 bytes of something else"),
        (b"<svg/>", "expected a picture .PNG, JPEG, WEBP, GIF, BMP., got 6 bytes"),
        (whole[: len(whole) // 2], "expected a whole picture"),
        (bomb, "expected at most 24000000 pixels, got 6000 x 6000"),
    ):
        with pytest.raises(PictureError, match=message):
            reader.read(file)
