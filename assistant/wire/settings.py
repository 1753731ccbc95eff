"""A session's effective settings: what `session.update` sends, merged, checked and read."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import msgspec

from assistant.wire.errors import WireError
from assistant.wire.schema import FORMATS, AudioFormat, Json, TurnDetection, check
from llm.interfaces import Tool

__all__ = ["AudioFormat", "Defaults", "ResponseSettings", "SessionSettings", "TurnDetection"]

_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
"""The names of the older flat sessions, which phone bridges still send."""

_SERVER_VAD = ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")


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
        self._session: Json = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": defaults.model,
            "output_modalities": ["audio"],
            "instructions": defaults.instructions,
            "audio": {
                "input": {
                    "format": FORMATS["audio/pcm"].to_wire(),
                    "transcription": transcription,
                    "noise_reduction": None,
                    "turn_detection": _detection({"type": "semantic_vad"}),
                },
                "output": {
                    "format": FORMATS["audio/pcm"].to_wire(),
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
        off = {"transcription": None, "turn_detection": None}
        self._cleared = merge(self._session, {"instructions": "", "audio": {"input": off}})
        """What a field holds that the client has cleared."""

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
        patch = _from_beta(patch)
        check(patch, "session", event_id)
        fixed = {name: self._session[name] for name in ("type", "object", "id", "conch")}
        session = _filled(merge(self._session, patch) | fixed, self._cleared)
        for side in (session["audio"]["input"], session["audio"]["output"]):
            side["format"] = FORMATS[side["format"]["type"]].to_wire()
        hears = session["audio"]["input"]
        hears["turn_detection"] = _detection(hears["turn_detection"])
        self._session = session

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
        given = {name: value for name, value in (given or {}).items() if value is not None}
        given = _from_beta(given)
        check(given, "response", event_id)
        merged = _filled(merge(self._session, given), self._cleared)
        output = merged["audio"]["output"]
        limit = merged["max_output_tokens"]
        voice = output["voice"]
        return ResponseSettings(
            instructions=merged["instructions"],
            speaks="audio" in merged["output_modalities"],
            voice=voice["id"] if isinstance(voice, dict) else voice,
            speed=output["speed"],
            output=FORMATS[output["format"]["type"]],
            tools=tuple(_tool(tool) for tool in merged["tools"]),
            tool_choice=_tool_choice(merged["tool_choice"]),
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


def _filled(session: Json, cleared: Json) -> Json:
    """`session` where every field that is missing or None is as in `cleared`, at every depth."""
    full = dict(session)
    for name, value in cleared.items():
        given = full.get(name)
        if given is None:
            full[name] = copy.deepcopy(value)
        elif isinstance(value, dict) and name not in _WHOLE:
            full[name] = _filled(given, value)
    return full


def _detection(given: Json | None) -> Json | None:
    """Turn detection with every field that its kind has."""
    if given is None:
        return None
    given = {name: value for name, value in given.items() if value is not None}
    full: Json = msgspec.to_builtins(msgspec.convert(given, TurnDetection))
    unused = _SERVER_VAD if full["type"] == "semantic_vad" else ("eagerness",)
    return {name: value for name, value in full.items() if name not in unused}


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
