"""POST /v1/realtime/client_secrets: a browser's way into one call, in the OpenAI shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from assistant.http_common import ApiError, limited
from assistant.metrics import wall
from assistant.policy import defaults
from assistant.session import CAPABILITIES
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from assistant.wire.settings import SessionSettings

_BODY_BYTES = 262_144


class _ExpiresAfter(Struct):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 60


class _SecretRequest(Struct):
    expires_after: _ExpiresAfter | None = None
    session: dict[str, Any] | None = None


async def client_secrets(request: Request) -> Response:
    service = request.app.state.service
    service.access.check(request.headers)
    model = service.ready().llm.name
    body = await limited(request, _BODY_BYTES).body()
    try:
        asked = msgspec.json.decode(body or b"{}", type=_SecretRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"expected a client secret request: {error}") from error
    session = asked.session or {}
    settings = SessionSettings(defaults(service.config, model), wire.new_id("sess"), CAPABILITIES)
    try:
        wire.check_depth(session)
        settings.update(session)
    except WireError as error:
        raise ApiError(400, error.message, code=error.code, param=error.param) from error
    seconds = (asked.expires_after or _ExpiresAfter()).seconds
    secret = service.access.issue(session, seconds, wall())
    return JSONResponse(
        {"value": secret.value, "expires_at": secret.expires_at, "session": settings.to_wire()},
        headers={"Cache-Control": "no-store"},
    )
