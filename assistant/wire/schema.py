"""The settings that the server reads from a client's JSON, with their types and limits.

Fields that are not here are echoed as they came. Source: the GA session and response objects of
the Realtime API reference.
"""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from assistant.wire.errors import WireError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    name: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int
    """Hz."""
    sample_width: int
    """Bytes."""

    def to_wire(self) -> Json:
        return {"type": self.name, **({"rate": self.rate} if self.name == "audio/pcm" else {})}


FORMATS = {
    "audio/pcm": AudioFormat("audio/pcm", 24_000, 2),
    "audio/pcmu": AudioFormat("audio/pcmu", 8_000, 1),
    "audio/pcma": AudioFormat("audio/pcma", 8_000, 1),
}

Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]


class TurnDetection(Struct, frozen=True, kw_only=True):
    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    create_response: bool = True
    interrupt_response: bool = True
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


class _Tool(Struct, tag_field="type", tag="function"):
    name: Name
    description: str | None = None
    parameters: Json | None = None


class _Pcm(Struct, tag_field="type", tag="audio/pcm"):
    rate: Literal[24_000] | None = None


class _Pcmu(Struct, tag_field="type", tag="audio/pcmu"):
    rate: Literal[8_000] | None = None


class _Pcma(Struct, tag_field="type", tag="audio/pcma"):
    rate: Literal[8_000] | None = None


class _Transcription(Struct):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class _NoiseReduction(Struct):
    type: Literal["near_field", "far_field"] | None = None


class _TurnDetection(Struct):
    """As a client sends it: null in any of its fields is that one's default."""

    type: Literal["server_vad", "semantic_vad"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None
    idle_timeout_ms: Milliseconds | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class _Input(Struct):
    format: _Pcm | _Pcmu | _Pcma | None = None
    transcription: _Transcription | None = None
    turn_detection: _TurnDetection | None = None
    noise_reduction: _NoiseReduction | None = None


class _Voice(Struct):
    id: Name


class _Output(Struct):
    format: _Pcm | _Pcmu | _Pcma | None = None
    voice: str | _Voice | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None


class _Audio(Struct):
    input: _Input | None = None
    output: _Output | None = None


class _Function(Struct):
    name: Name


class _ToolChoice(Struct):
    name: Name | None = None
    function: _Function | None = None


class _Settings(Struct):
    """Of a session, or of one response."""

    audio: _Audio | None = None
    instructions: str | None = None
    model: str | None = None
    output_modalities: (
        Annotated[list[Literal["text", "audio"]], Meta(min_length=1, max_length=2)] | None
    ) = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | Literal["inf"] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    truncation: str | Json | None = None
    tracing: str | Json | None = None
    prompt: Json | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    conversation: Literal["auto", "none"] | None = None
    input: list[Json] | None = None


_CHOICES = {
    "format.type": "audio/pcm, audio/pcmu or audio/pcma",
    "format.rate": "24000 for audio/pcm, 8000 for audio/pcmu and audio/pcma",
    "turn_detection.type": "server_vad or semantic_vad",
    "turn_detection.eagerness": "low, medium, high or auto",
    "noise_reduction.type": "near_field or far_field",
    "output_modalities": "audio or text",
    "tools.type": "function",
    "tool_choice": "none, auto, required or a function's name",
    "max_output_tokens": "a whole number of at least 1, or inf",
    "conversation": "auto or none",
}
"""What msgspec leaves out of its messages, by the end of the path."""


def check(given: Json, root: str, event_id: str) -> None:
    """Raises WireError, its param the path from `root`."""
    try:
        msgspec.convert(given, _Settings)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`")
        names = re.sub(r"\[.*?\]", "", path).strip(".").split(".")
        expected = _CHOICES.get(".".join(names[-2:])) or _CHOICES.get(names[-1])
        if expected and problem.startswith("Invalid"):
            problem = f"expected {expected}, got {_at(given, path)}"
        elif problem.startswith("Expected") and "got" not in problem:
            problem += f", got {_at(given, path)}"
        raise WireError(
            f"{root}{path}: {problem}",
            code="invalid_value",
            param=root + path,
            event_id=event_id,
        ) from None


def _at(given: Any, path: str) -> str:
    """What stands at msgspec's `path`, cut to a readable length."""
    for name in re.findall(r"[^.\[\]]+", path):
        given = given[int(name)] if isinstance(given, list) else given[name]
    return reprlib.repr(given)
