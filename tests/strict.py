"""Server events against the models that stock clients parse them with.

Tests that use this carry the mark `client`: the models take half a second to import.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from assistant.wire import realtime as wire


def valid(event: dict[str, Any]) -> Any:
    """The event as a client sees it, of the exact types. Raises pydantic.ValidationError."""
    return _events().validate_json(wire.encode(event), strict=True)


@cache
def _events() -> Any:
    from openai.types.realtime.realtime_server_event import RealtimeServerEvent
    from pydantic import Field, TypeAdapter

    # The union by which openai-agents validates; importing it from there takes a second more.
    return TypeAdapter(Annotated[RealtimeServerEvent, Field(discriminator="type")])
