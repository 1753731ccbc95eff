"""The server: calls over websocket, the HTTP API beside them, the page, and its health."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from assistant import telephony
from assistant.access import Access
from assistant.config import Config
from assistant.engines import Engines, LoadError, Progress, load_engines
from assistant.http_audio import speech, transcriptions
from assistant.http_chat import chat_completions
from assistant.http_common import ApiError
from assistant.http_models import model, models, voices
from assistant.http_page import Page
from assistant.http_secrets import client_secrets
from assistant.memory_back import give_memory_back
from assistant.metrics import wall
from assistant.outbox import Transport
from assistant.resume import Registry, ResumableLine
from assistant.session import EXTENSION, Session
from assistant.telephony import Line
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from assistant.wire.transport import WebSocketTransport
from llm.interfaces import NoFreeSlot

_log = logging.getLogger(__name__)

OVER, GOING_AWAY, UNSUPPORTED, BROKEN, TRY_AGAIN_LATER = 1000, 1001, 1003, 1011, 1013
"""Close codes (RFC 6455, and its IANA registry)."""
_ENDING = 2.0
"""Seconds that a new call waits for the slot of one whose client is gone."""
_STOPPING = 4
"""Seconds that calls and requests have when the server is told to stop."""

Load = Callable[[Config, Progress], Awaitable[Engines]]


class Call(Protocol):
    async def run(self) -> None: ...


class StartCall(Protocol):
    def __call__(
        self,
        transport: Transport,
        engines: Engines,
        config: Config,
        *,
        model: str,
        extensions: frozenset[str],
        session: dict[str, Any],
    ) -> Call: ...


@dataclass
class Service:
    """What all requests share; `app.state.service`."""

    config: Config
    start_call: StartCall = Session
    engines: Engines | None = None
    stage: str = ""
    progress: float = 0.0
    failure: str = ""
    calls: set[Line] = field(default_factory=set)
    chat_slot: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """The one slot of the language model that calls leave to the HTTP API."""
    access: Access = field(init=False)
    resumable: Registry = field(default_factory=Registry)

    def __post_init__(self) -> None:
        self.access = Access(self.config.server)

    async def load(self, load: Load) -> None:
        def progress(stage: str, done: float) -> None:
            self.stage, self.progress = stage, done

        try:
            self.engines = await load(self.config, progress)
        except LoadError as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the server must say it
            _log.exception("loading the models failed")
            self.failure = f"{self.stage}: {type(error).__name__}: {error}"

    def ready(self) -> Engines:
        """The engines. Raises ApiError while there are none."""
        if self.failure:
            raise ApiError(500, self.failure, code="models_not_loaded")
        if self.engines is None:
            message = f"the models are being loaded: {self.stage}, {self.progress:.0%}"
            raise ApiError(503, message, code="loading")
        return self.engines

    async def hang_up(self) -> None:
        """End all calls because the server stops."""
        closing = [call.close(GOING_AWAY, "the server is stopping") for call in self.calls]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing), 1.0)


def create_app(
    config: Config, load: Load = load_engines, *, start_call: StartCall = Session
) -> Starlette:
    """The ASGI app; it loads the engines in the background once its lifespan has begun."""
    service = Service(config, start_call)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.loading = loading = asyncio.create_task(service.load(load))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            if service.engines is not None:
                await service.engines.aclose()

    app = Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/models", models),
            Route("/v1/models/{id:path}", model),
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/audio/speech", speech, methods=["POST"]),
            Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
            Route("/v1/audio/voices", voices),
            Route("/v1/realtime/client_secrets", client_secrets, methods=["POST"]),
            WebSocketRoute("/v1/realtime", realtime),
            WebSocketRoute("/realtime", realtime),
            WebSocketRoute(telephony.PATH, twilio),
            WebSocketRoute("/{path:path}", nowhere),
            Mount("/", Page()),
        ],
        exception_handlers={ApiError: _answer_error},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def serve(config: Config) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises LoadError when models or certificate cannot be used."""
    server = Server(config, create_app(config))
    server.run()
    if server.service.failure:
        raise LoadError(server.service.failure)


class Server(uvicorn.Server):
    """Stops when the models cannot be loaded, and hangs up before it stops."""

    def __init__(self, config: Config, app: Starlette) -> None:
        """Raises LoadError when the TLS files cannot be used."""
        settings = uvicorn.Config(
            app,
            host=config.server.host,
            port=config.server.port,
            ws="websockets-sansio",
            ws_max_size=wire.APPEND_FACTOR * config.server.max_frame_bytes,
            # Compressing base64 audio costs more latency than it saves bytes on such a link.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_STOPPING,
            # Request lines and handshake headers, which it would log, may hold keys.
            access_log=False,
            log_level="warning",
            log_config=None,
            ssl_certfile=config.server.tls_cert or None,
            ssl_keyfile=config.server.tls_key or None,
        )
        try:
            settings.load()
        except OSError as error:
            # What the ssl module raises names no file.
            files = f"{config.server.tls_cert} and {config.server.tls_key}"
            raise LoadError(f"server.tls_cert, server.tls_key: {files}: {error}") from error
        super().__init__(settings)
        self._app = app
        self.service: Service = app.state.service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._app.state.loading.add_done_callback(self._loaded)

    def _loaded(self, _task: asyncio.Task[Any]) -> None:
        if self.service.failure:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.service.hang_up()
        await super().shutdown(sockets)


async def realtime(websocket: WebSocket) -> None:
    """One call of a Realtime client."""
    if "resume" in websocket.query_params:
        await _resume(websocket)
        return
    service: Service = websocket.app.state.service
    subprotocols = websocket.scope["subprotocols"]
    try:
        engines = service.ready()
        session = service.access.admit(websocket.headers, subprotocols, wall())
    except ApiError as error:
        await _deny(websocket, error)
        return
    await websocket.accept("realtime" if "realtime" in subprotocols else None)
    extensions = _extensions(websocket)
    start = partial(
        service.start_call,
        engines=engines,
        config=service.config,
        model=websocket.query_params.get("model", ""),
        extensions=extensions,
        session=session,
    )
    transport = WebSocketTransport(websocket)
    limit, grace = service.config.server.send_buffer_bytes, service.config.server.resume_s
    resumable = EXTENSION in extensions and grace > 0
    line = ResumableLine(transport, service.resumable, limit, grace) if resumable else transport
    await _hold(service, line, start)


async def _resume(websocket: WebSocket) -> None:
    """The client of a call is back; its token is all that it has to show."""
    service: Service = websocket.app.state.service
    given = websocket.query_params
    try:
        service.access.check_origin(websocket.headers)
        line, after = service.resumable.claim(given["resume"], given.get("after", ""))
    except ApiError as error:
        await _deny(websocket, error)
        return
    await websocket.accept("realtime" if "realtime" in websocket.scope["subprotocols"] else None)
    await line.carry(WebSocketTransport(websocket), after)


async def twilio(websocket: WebSocket) -> None:
    """One telephone call. Twilio can send no key: its signature, where it can be checked, is
    what lets it in; otherwise what lets any other request in."""
    service: Service = websocket.app.state.service
    try:
        engines = service.ready()
        if service.config.telephony.twilio_auth_token:
            telephony.check_signature(service.config.telephony, websocket.headers)
        else:
            service.access.check(websocket.headers)
    except ApiError as error:
        await _deny(websocket, error)
        return
    await websocket.accept()
    line = WebSocketTransport(websocket)
    try:
        begun = await telephony.begun(line)
    except WireError as error:
        _log.warning("a telephone call did not begin: %s", error)
        await line.close(UNSUPPORTED, error.message)
        return
    if begun is None:
        return
    start = partial(
        service.start_call,
        engines=engines,
        config=service.config,
        model="",
        extensions=frozenset(),
        session=telephony.session_settings(begun),
    )
    await _hold(service, telephony.TwilioTransport(line, begun), start)


async def nowhere(websocket: WebSocket) -> None:
    """A base URL that lacks its end, or has too much of one: say which is right."""
    message = f"expected a websocket at /v1/realtime, got one at {websocket.url.path}"
    await _deny(websocket, ApiError(404, message, code="unknown_url"))


async def _hold(service: Service, transport: Line, start: Callable[[Transport], Call]) -> None:
    """The call on `transport`, from its beginning to its end, if there is room for it."""
    if sum(not call.gone for call in service.calls) >= service.config.server.max_calls:
        await _refuse(transport, service.config.server.max_calls)
        return
    service.calls.add(transport)
    _log.info("a call begins, %d under way", len(service.calls))
    try:
        call = await _start(service, transport, start)
        await call.run()
        await transport.close(OVER, "")
    except NoFreeSlot:
        await _refuse(transport, service.config.server.max_calls)
    except Exception:  # noqa: BLE001  # one call's fault must not stay unsaid, nor end others
        _log.exception("a call broke")
        await transport.close(BROKEN, "the server failed; its log says why")
    finally:
        service.calls.discard(transport)
        _log.info("a call is over, %d under way", len(service.calls))
        if not service.calls:
            await asyncio.to_thread(give_memory_back)


async def _start(
    service: Service, transport: Transport, start: Callable[[Transport], Call]
) -> Call:
    """Raises NoFreeSlot when no call gives its slot back in time."""
    waited = 0.0
    while True:
        try:
            return start(transport)
        except NoFreeSlot:
            # A call whose client is gone needs a moment to stop what it started.
            ending = any(call.gone for call in service.calls)
            if not ending or waited >= _ENDING:
                raise
        await asyncio.sleep(_ENDING / 50)
        waited += _ENDING / 50


async def _deny(websocket: WebSocket, error: ApiError) -> None:
    """Answer before the upgrade; the log says who was refused, and nothing of what they showed."""
    client = websocket.client.host if websocket.client else "somebody"
    _log.warning("a call from %s was refused: %s", client, error.message)
    await websocket.send_denial_response(error.response())


async def _refuse(transport: Transport, limit: int) -> None:
    problem = WireError(
        f"all {limit} calls of this server are under way, try again later",
        code="too_many_calls",
        kind="server_error",
    )
    await transport.send(wire.encode(wire.error(problem)))
    await transport.close(TRY_AGAIN_LATER, problem.message)


def _extensions(websocket: WebSocket) -> frozenset[str]:
    given = ",".join(websocket.query_params.getlist("ext"))
    return frozenset(name for name in given.split(",") if name)


async def health(request: Request) -> Response:
    """Whether calls are taken yet; open to everybody, and says nothing secret."""
    service: Service = request.app.state.service
    if service.failure:
        return JSONResponse({"status": "failed", "reason": service.failure}, 500)
    engines = service.engines
    if engines is None:
        progress = {"stage": service.stage, "progress": round(service.progress, 3)}
        return JSONResponse({"status": "loading", **progress}, 503)
    return JSONResponse(
        {
            "status": "ok",
            "model": engines.llm.name,
            "tts": engines.tts_name,
            "calls": len(service.calls),
        }
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    if error.status in {401, 403}:
        client = request.client.host if request.client else "somebody"
        _log.warning("%s from %s was refused: %s", request.url.path, client, error.message)
    return error.response()
