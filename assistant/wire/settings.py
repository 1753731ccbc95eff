"""A session's effective settings: what `session.update` sends, merged, checked and read."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from assistant.wire.errors import WireError
from llm.interfaces import Tool

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    name: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int
    """Hz."""
    sample_width: int
    """Bytes."""


FORMATS = {
    "audio/pcm": AudioFormat("audio/pcm", 24_000, 2),
    "audio/pcmu": AudioFormat("audio/pcmu", 8_000, 1),
    "audio/pcma": AudioFormat("audio/pcma", 8_000, 1),
}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
"""The names of the older flat sessions, which phone bridges still send."""


class TurnDetection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    type: Literal["server_vad", "semantic_vad"]
    create_response: bool = True
    interrupt_response: bool = True
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


_SERVER_VAD = ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")


class _Tool(msgspec.Struct, tag_field="type", tag="function"):
    name: str
    description: str | None = None
    parameters: Json | None = None


class _Format(msgspec.Struct):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: Literal[24_000, 8_000] | None = None


class _Transcription(msgspec.Struct):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class _Input(msgspec.Struct):
    format: _Format | None = None
    transcription: _Transcription | None = None
    turn_detection: TurnDetection | None = None
    noise_reduction: Json | None = None


class _Output(msgspec.Struct):
    format: _Format | None = None
    voice: str | Json | None = None
    speed: float | None = None


class _Audio(msgspec.Struct):
    input: _Input | None = None
    output: _Output | None = None


class _Checked(msgspec.Struct):
    """The fields that the server reads, with their types; others are echoed as they came."""

    audio: _Audio | None = None
    instructions: str | None = None
    model: str | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | Json | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    temperature: float | None = None
    metadata: dict[str, str] | None = None
    conversation: str | None = None
    input: list[Json] | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the server uses where the client does not say."""

    model: str
    instructions: str
    voice: str
    speed: float
    transcription_model: str
    language: str
    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What one response is made with."""

    instructions: str
    speaks: bool
    voice: str
    speed: float
    output: AudioFormat
    tools: tuple[Tool, ...]
    tool_choice: str
    temperature: float
    max_tokens: int
    metadata: dict[str, str] | None = None
    in_conversation: bool = True
    """False for `conversation: none`: answered out of band, and not remembered."""
    input: tuple[Json, ...] | None = None
    """Items to answer instead of the conversation."""


class SessionSettings:
    """The session object, complete at any time."""

    def __init__(self, defaults: Defaults, session_id: str, capabilities: Json) -> None:
        self._defaults = defaults
        transcription: Json = {"model": defaults.transcription_model}
        if defaults.language:
            transcription["language"] = defaults.language
        pcm = {"type": "audio/pcm", "rate": 24_000}
        self._session: Json = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": defaults.model,
            "output_modalities": ["audio"],
            "instructions": defaults.instructions,
            "audio": {
                "input": {
                    "format": dict(pcm),
                    "transcription": transcription,
                    "noise_reduction": None,
                    "turn_detection": _filled({"type": "semantic_vad"}),
                },
                "output": {
                    "format": dict(pcm),
                    "voice": defaults.voice,
                    "speed": defaults.speed,
                },
            },
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
            "tracing": None,
            "conch": capabilities,
        }

    def to_wire(self) -> Json:
        return copy.deepcopy(self._session)

    def update(self, patch: Json, event_id: str = "") -> None:
        """Deep-merge `patch`; null clears. Raises WireError and then changes nothing."""
        if patch.get("type", "realtime") != "realtime":
            raise WireError(
                f"session.type: expected 'realtime', got {patch['type']!r}",
                code="invalid_value",
                param="session.type",
                event_id=event_id,
            )
        merged = merge(self._session, _from_beta(patch))
        fixed = {name: self._session[name] for name in ("type", "object", "id", "conch")}
        merged |= fixed
        _complete(merged)
        _check(merged, "session", event_id)
        detection = merged["audio"]["input"]["turn_detection"]
        merged["audio"]["input"]["turn_detection"] = _filled(detection)
        self._session = merged

    # --- what the server reads ------------------------------------------------------------

    @property
    def _input(self) -> Json:
        given: Json = self._session["audio"]["input"]
        return given

    @property
    def input_format(self) -> AudioFormat:
        return FORMATS[self._input["format"]["type"]]

    @property
    def turn_detection(self) -> TurnDetection | None:
        """None: push-to-talk."""
        detection = self._input["turn_detection"]
        return None if detection is None else msgspec.convert(detection, TurnDetection)

    @property
    def transcription(self) -> bool:
        """Whether the client wants to see the caller's words."""
        return self._input["transcription"] is not None

    @property
    def language(self) -> str:
        """ISO 639-1; empty to detect it."""
        return ((self._input["transcription"] or {}).get("language") or "")[:2].lower()

    def response(self, given: Json | None = None, event_id: str = "") -> ResponseSettings:
        """The session's settings with those of one response.create over them."""
        given = _from_beta(given or {})
        _check(given, "response", event_id)
        merged = merge({**self._session, "metadata": None}, given)
        _complete(merged)
        output = merged["audio"]["output"]
        limit = merged.get("max_output_tokens")
        voice = output.get("voice") or self._defaults.voice
        return ResponseSettings(
            instructions=merged.get("instructions") or "",
            speaks="audio" in (merged.get("output_modalities") or ["audio"]),
            voice=voice["id"] if isinstance(voice, dict) else voice,
            speed=output.get("speed") or self._defaults.speed,
            output=FORMATS[output["format"]["type"]],
            tools=tuple(_tool(tool) for tool in merged.get("tools") or ()),
            tool_choice=_tool_choice(merged.get("tool_choice")),
            temperature=_first(merged.get("temperature"), self._defaults.temperature),
            max_tokens=limit if isinstance(limit, int) else self._defaults.max_tokens,
            metadata=given.get("metadata"),
            in_conversation=given.get("conversation") != "none",
            input=None if given.get("input") is None else tuple(given["input"]),
        )


def merge(base: Json, patch: Json) -> Json:
    """`base` with `patch` merged in at every depth; neither is changed."""
    merged = dict(base)
    for name, value in patch.items():
        old = merged.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and name not in _WHOLE:
            merged[name] = merge(old, value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


_WHOLE = ("metadata", "tool_choice", "prompt", "format")
"""Objects that a client replaces as a whole."""


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def _filled(detection: Json | None) -> Json | None:
    """Turn detection with every field that its kind has."""
    if detection is None:
        return None
    full: Json = msgspec.to_builtins(msgspec.convert(detection, TurnDetection))
    unused = _SERVER_VAD if full["type"] == "semantic_vad" else ("eagerness",)
    return {name: value for name, value in full.items() if name not in unused}


def _complete(session: Json) -> None:
    """Put back what a client cleared but nothing can be done without."""
    audio = session["audio"] = dict(session.get("audio") or {})
    for side in ("input", "output"):
        audio[side] = dict(audio.get(side) or {})
        audio[side]["format"] = audio[side].get("format") or {"type": "audio/pcm", "rate": 24_000}
    audio["input"].setdefault("turn_detection", None)
    audio["input"].setdefault("transcription", None)
    detection = audio["input"]["turn_detection"]
    if isinstance(detection, dict):
        detection.setdefault("type", "server_vad")


def _check(given: Json, root: str, event_id: str) -> None:
    try:
        msgspec.convert(given, _Checked)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        param = root + path.rstrip("`")
        raise WireError(
            f"{param}: {problem}", code="invalid_value", param=param, event_id=event_id
        ) from None


def _tool(given: Json) -> Tool:
    return Tool(given["name"], given.get("description") or "", given.get("parameters") or {})


def _tool_choice(given: str | Json | None) -> str:
    if isinstance(given, dict):
        return str(given.get("name") or (given.get("function") or {}).get("name") or "auto")
    return given or "auto"


def _from_beta(patch: Json) -> Json:
    """The flat fields of the older sessions, where GA has them."""
    patch = dict(patch)
    audio: Json = {}
    for side in ("input", "output"):
        name = patch.pop(f"{side}_audio_format", None)
        if name is not None:
            kind = _BETA_FORMATS.get(name, name) if isinstance(name, str) else name
            audio.setdefault(side, {})["format"] = {"type": kind}
    for old, side, new in (
        ("turn_detection", "input", "turn_detection"),
        ("input_audio_transcription", "input", "transcription"),
        ("input_audio_noise_reduction", "input", "noise_reduction"),
        ("voice", "output", "voice"),
        ("speed", "output", "speed"),
    ):
        if old in patch:
            audio.setdefault(side, {})[new] = patch.pop(old)
    if "modalities" in patch:
        modalities = patch.pop("modalities")
        both = isinstance(modalities, list) and "audio" in modalities
        patch["output_modalities"] = ["audio"] if both else modalities
    if "max_response_output_tokens" in patch:
        patch["max_output_tokens"] = patch.pop("max_response_output_tokens")
    return merge({"audio": audio}, patch) if audio else patch
