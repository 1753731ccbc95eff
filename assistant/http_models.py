"""GET /v1/models and /v1/audio/voices: what listens, answers and speaks here."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from assistant.http_common import ApiError


async def models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": _listed(request)})


async def model(request: Request) -> Response:
    wanted = request.path_params["id"]
    for listed in _listed(request):
        if listed["id"] == wanted:
            return JSONResponse(listed)
    raise ApiError(404, f"the model {wanted!r} does not exist", code="model_not_found", param="id")


async def voices(request: Request) -> Response:
    """The names that `audio.output.voice` may have; the hosted API has no such list."""
    service = request.app.state.service
    service.access.check(request.headers)
    data = [
        {"id": voice.name, "object": "voice", "language": voice.language, "gender": voice.gender}
        for voice in service.ready().synthesizer.voices
    ]
    return JSONResponse({"object": "list", "data": data})


def _listed(request: Request) -> list[dict[str, Any]]:
    service = request.app.state.service
    service.access.check(request.headers)
    engines = service.ready()
    names = dict.fromkeys((engines.llm.name, service.config.asr.model, engines.tts_name))
    return [
        {"id": name, "object": "model", "created": 0, "owned_by": "conch"} for name in names if name
    ]
