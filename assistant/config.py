"""The configuration: a TOML file, CONCH_* variables and flags become one frozen Config.

This is the only reader of all three. Later layers win: defaults, file, environment, flags.
Every key is described in docs/config.md, which a test holds to these structs.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec

Values = Mapping[str, Mapping[str, object]]
"""Section -> key -> value."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

INSTRUCTIONS = (
    "You are a friendly voice assistant on a call. Everything you write is spoken aloud, so use "
    "short, natural sentences and answer in one to three of them. Never use markdown, lists, "
    "code, emoji or links. Speak the language that the caller speaks. If you did not understand, "
    "ask."
)


class ConfigError(Exception):
    """A setting is wrong; the message names where it stands, what was expected and what came."""


class Secret(str):
    """A string that does not show itself in logs, errors or the repr of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class ServerSettings(msgspec.Struct, frozen=True):
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8470
    api_key: Secret = Secret()
    max_calls: Positive = 4
    max_frame_bytes: Positive = 1_048_576
    send_buffer_bytes: Positive = 8_388_608


class VadSettings(msgspec.Struct, frozen=True):
    engine: str = "silero"
    model: str = "silero-vad"


class EndpointSettings(msgspec.Struct, frozen=True):
    engine: str = "smart-turn"
    model: str = "smart-turn"
    threads: Positive = 1


class AsrSettings(msgspec.Struct, frozen=True):
    engine: str = "whisper"
    model: str = "whisper-base"
    language: str = ""
    threads: Positive = 2


class LlmSettings(msgspec.Struct, frozen=True):
    engine: str = "llamacpp"
    model: str = "default-llm"
    context: Positive = 8192
    threads: Positive = 2
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.6
    max_tokens: Positive = 400
    base_url: str = ""
    api_key: Secret = Secret()


class TtsSettings(msgspec.Struct, frozen=True):
    engine: str = "auto"
    voice: str = ""
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=4)] = 1.0
    threads: Positive = 1


class CallSettings(msgspec.Struct, frozen=True):
    instructions: str = INSTRUCTIONS
    lead_ms: Milliseconds = 250
    greeting: str = ""


class TurnSettings(msgspec.Struct, frozen=True):
    vad_threshold: Share = 0.5
    pause_ms: Milliseconds = 200
    complete_delay_ms: Milliseconds = 300
    incomplete_delay_ms: Milliseconds = 1500
    max_delay_ms: Milliseconds = 3000
    complete_probability: Share = 0.5
    barge_in_ms: Milliseconds = 400
    hold_ms: Milliseconds = 600
    min_speech_ms: Milliseconds = 96
    idle_timeout_ms: Milliseconds = 0
    prefix_ms: Milliseconds = 300


class Config(msgspec.Struct, frozen=True):
    server: ServerSettings = ServerSettings()
    vad: VadSettings = VadSettings()
    endpoint: EndpointSettings = EndpointSettings()
    asr: AsrSettings = AsrSettings()
    llm: LlmSettings = LlmSettings()
    tts: TtsSettings = TtsSettings()
    call: CallSettings = CallSettings()
    turns: TurnSettings = TurnSettings()


SECTIONS: dict[str, type[msgspec.Struct]] = get_type_hints(Config)
_FIELDS = {name: get_type_hints(kind, include_extras=True) for name, kind in SECTIONS.items()}
_OTHER_VARIABLES = frozenset({"CONCH_MODELS"})
"""CONCH_* variables that are no settings: where the models lie (assistant/models.py)."""


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Values | None = None,
) -> Config:
    """One Config from a TOML file, CONCH_SECTION_KEY variables and command-line flags.

    Raises ConfigError for an unreadable file, an unknown key, a value of the wrong type or out
    of range, and for a server that others can reach without an API key."""
    merged: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for section, key, value in _checked(path, environ or {}, flags or {}):
        merged[section][key] = value
    config = Config(**{name: SECTIONS[name](**values) for name, values in merged.items()})
    if not config.server.api_key and not is_loopback(config.server.host):
        raise ConfigError(
            f"[server] host = {config.server.host!r} can be reached from other machines: "
            "expected an API key (--api-key or CONCH_SERVER_API_KEY), got none"
        )
    return config


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(
    path: Path | None, environ: Mapping[str, str], flags: Values
) -> Iterator[tuple[str, str, Any]]:
    if path is not None:
        for section, values in _read(path).items():
            if not isinstance(values, dict):
                raise ConfigError(f"{path}: expected sections such as [server], got {section!r}")
            for key, value in values.items():
                yield section, key, _convert(f"{path}: [{section}] {key}", section, key, value)
    for name, text in environ.items():
        if name.startswith("CONCH_") and name not in _OTHER_VARIABLES:
            section, _, key = name.removeprefix("CONCH_").lower().partition("_")
            yield section, key, _convert(name, section, key, text, strict=False)
    for section, values in flags.items():
        for key, value in values.items():
            flag = f"--{key.replace('_', '-')}"
            yield section, key, _convert(flag, section, key, value)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path}: expected a readable file, got {problem.strerror}") from None
    except ValueError as problem:
        raise ConfigError(f"{path}: expected TOML, got {problem}") from None


def _convert(origin: str, section: str, key: str, value: object, *, strict: bool = True) -> Any:
    """`value` as the type of its field; `origin` is where it stands, for the error."""
    if section not in _FIELDS:
        raise ConfigError(f"{origin}: unknown section {section!r}; expected {', '.join(_FIELDS)}")
    if key not in _FIELDS[section]:
        expected = ", ".join(_FIELDS[section])
        raise ConfigError(f"{origin}: unknown key {key!r} in [{section}]; expected {expected}")
    kind = _FIELDS[section][key]
    if kind is Secret:
        if not isinstance(value, str):
            raise ConfigError(f"{origin}: expected str, got {type(value).__name__}")
        return Secret(value)
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as problem:
        expected = str(problem).removeprefix("Expected ").partition(", got")[0].replace("`", "")
        raise ConfigError(f"{origin}: expected {expected}, got {value!r}") from None
