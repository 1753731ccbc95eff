"""Server events against the models that stock clients parse them with."""

from __future__ import annotations

from typing import Annotated, Any

from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import Field, TypeAdapter

from assistant.wire import realtime as wire

# The union by which openai-agents validates; importing it from there would take a second more.
_EVENTS: TypeAdapter[Any] = TypeAdapter(Annotated[RealtimeServerEvent, Field(discriminator="type")])


def valid(event: dict[str, Any]) -> Any:
    """The event as a client sees it, of the exact types. Raises pydantic.ValidationError."""
    return _EVENTS.validate_json(wire.encode(event), strict=True)
