"""Pictures that a caller shows a model that cannot see: the text in them is read for it."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import logging
import re
import reprlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from assistant.wire import realtime as wire
from assistant.wire.errors import WireError

if TYPE_CHECKING:
    from assistant.conversation import Item
    from assistant.engines import Engines

_log = logging.getLogger(__name__)

_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_PIXELS = 24_000_000
"""The most that are decoded: a small file can hold a picture that fills the memory."""
_SIDE = 2000
"""Pixels; larger pictures are made smaller before they are read."""
_CHARACTERS = 4000
"""Of one picture's text; the rest is cut off, for the conversation's sake."""


class PictureError(Exception):
    """A picture that cannot be read; says what was expected and what came."""


class PictureReader(Protocol):
    def read(self, picture: bytes) -> str:
        """The text in a picture's file, line by line; empty where there is none.

        Blocking. Raises PictureError."""


class RapidReader:
    """RapidOCR (PP-OCRv6, Latin and Chinese script); its models come with the package."""

    def __init__(self, *, threads: int) -> None:
        """Raises ModuleNotFoundError without the package. Models load with the first picture."""
        if importlib.util.find_spec("rapidocr") is None:
            raise ModuleNotFoundError("expected the package rapidocr", name="rapidocr")
        self._threads = threads
        self._engine: Any = None

    def read(self, picture: bytes) -> str:
        pixels = _decoded(picture)
        self._engine = self._engine or self._loaded()
        return "\n".join(self._engine(pixels).txts or ())

    def _loaded(self) -> Any:
        from rapidocr import RapidOCR

        one = "EngineConfig.onnxruntime"
        params = {
            f"{one}.intra_op_num_threads": self._threads,
            f"{one}.inter_op_num_threads": 1,
            "Global.log_level": "critical",
        }
        return RapidOCR(params=params)


def content(url: str) -> bytes:
    """The file in a data URL. Raises PictureError; nothing is ever fetched."""
    match = _URL.match(url)
    if match is None:
        raise PictureError(f"expected data:image/...;base64,..., got {reprlib.repr(url)}")
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"expected a picture in base64, got {error}") from None


async def look(
    item: Item, engines: Engines, send: Callable[[list[wire.Event]], None], event_id: str
) -> None:
    """Put the text of the item's pictures in their place; what cannot be read, `send` tells."""
    parts = []
    for at, part in enumerate(item.wire["content"]):
        if part["type"] != "input_image":
            parts.append(part)
            continue
        text = None
        try:
            text = await _read(part["image_url"], engines)
        except PictureError as error:
            path = f"item.content[{at}].image_url"
            problem = WireError(
                f"{path}: {error}", code="invalid_value", param=path, event_id=event_id
            )
            send([wire.error(problem)])
        # Of the picture nothing is kept: calls are long, and pictures large.
        parts.append({"type": "input_image", "text": text})
    item.replace(parts)


async def _read(url: str, engines: Engines) -> str | None:
    """None where there is nobody to read it. Raises PictureError."""
    if engines.reader is None:
        return None
    text = await engines.run("ocr", partial(engines.reader.read, content(url)))
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + " ..."


def told(part: dict[str, Any]) -> str:
    """What a model that cannot see is told of a picture."""
    text = part.get("text")
    if text is None:
        return "[The caller shows a picture. You cannot see it.]"
    if not text.strip():
        return "[The caller shows a picture. You cannot see it; there is no text in it to read.]"
    return (
        "[The caller shows a picture. You cannot see it, only the text in it has been read for "
        f"you:\n{text}\n]"
    )


def _decoded(picture: bytes) -> Any:
    """RGB, uint8 of shape (height, width, 3). Raises PictureError."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture), formats=_FORMATS) as image:
            if image.width * image.height > _PIXELS:
                size = f"{image.width} x {image.height}"
                raise PictureError(f"expected at most {_PIXELS} pixels, got {size}")
            image.thumbnail((_SIDE, _SIDE))
            full = image.convert("RGBA")
            paper = Image.new("RGBA", full.size, "white")
            return np.asarray(Image.alpha_composite(paper, full).convert("RGB"))
    except UnidentifiedImageError:
        expected = ", ".join(_FORMATS)
        message = f"expected a picture ({expected}), got {len(picture)} bytes of something else"
        raise PictureError(message) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"expected a whole picture, got one with: {error}") from error
