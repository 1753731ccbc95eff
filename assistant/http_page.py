"""The call page and the kiosk's, as files."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).parent / "web"
_NAMES = {"kiosk": "kiosk.html"}
"""Addresses that a person types, and their files."""
_HEADERS = {
    # The page's own files and its own server; `blob:` is the recording that it has made itself.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(self)",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Page(StaticFiles):
    """Kept from loading or sending anything elsewhere."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(_NAMES.get(path, path), scope)
        response.headers.update(_HEADERS)
        return response
