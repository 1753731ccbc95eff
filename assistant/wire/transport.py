"""A Starlette websocket as the session's Transport."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import (
    WebSocket,
    WebSocketDisconnect,
    WebSocketDisconnected,
    WebSocketState,
)

_CLOSING = 5.0
"""Seconds that a client which reads nothing may delay its close frame."""
_FINAL = {1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009}
"""Codes of a close frame that ends a call for good: the client hangs up, or one side will not go
on with what the other sends. A client that has its doubts about the connection uses another."""
_REASON_BYTES = 123
"""What RFC 6455 leaves for a close frame's reason."""


class WebSocketTransport:
    def __init__(self, websocket: WebSocket) -> None:
        """`websocket` has been accepted."""
        self._websocket = websocket
        self._closed = False
        self.gone = False
        """The client has left."""
        self.dropped = False
        """It did not mean to: the connection broke."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the client is gone."""
        if self._websocket.client_state is not WebSocketState.DISCONNECTED:
            message = await self._websocket.receive()
            if message["type"] != "websocket.disconnect":
                text: str | None = message.get("text")
                return message["bytes"] if text is None else text
            # uvicorn says 1005 of a broken connection too, but only a close frame has a reason.
            self.dropped = "reason" not in message or message["code"] not in _FINAL
        self.gone = True
        return None

    async def send(self, text: str) -> None:
        """Waits while the socket pushes back; what a closed socket gets is lost."""
        if not self._closed:
            with suppress(WebSocketDisconnect, WebSocketDisconnected):
                await self._websocket.send_text(text)

    async def close(self, code: int, reason: str) -> None:
        if self._closed or self._websocket.client_state is WebSocketState.DISCONNECTED:
            return
        self._closed = True
        reason = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            await asyncio.wait_for(self._websocket.close(code, reason), _CLOSING)
