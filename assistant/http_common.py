"""What the HTTP endpoints share: the OpenAI error shape, limits, and giving up with the client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive

T = TypeVar("T")

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """Ends a request with `status` and an OpenAI error body."""

    def __init__(self, status: int, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        error = {
            "message": self.message,
            "type": _KINDS.get(self.status, "invalid_request_error"),
            "param": self.param or None,
            "code": self.code or None,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": "2"} if self.status in {429, 503} else None
        return JSONResponse(self.body(), self.status, headers)


def limited(request: Request, limit: int) -> Request:
    """The same request, whose body may have at most `limit` bytes."""
    error = ApiError(413, f"expected at most {limit} bytes, got more", code="request_too_large")
    if int(request.headers.get("content-length", 0)) > limit:
        raise error
    return Request(request.scope, _counted(request.receive, limit, error))


def _counted(receive: Receive, limit: int, error: ApiError) -> Receive:
    size = 0

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise error
        return message

    return counting


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`; it is cancelled when the client goes away. The body must have been read."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client is gone")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
