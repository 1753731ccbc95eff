"""Settings: a TOML file, then CONCH_SECTION_KEY in the environment, then flags.

Later sources win. This is the only reader of the three; everything else is handed the frozen
`Config`, or one section of it. docs/config.md says what each key is for.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

INSTRUCTIONS = (
    "You are a friendly assistant on a voice call. Answer in one to three short spoken "
    "sentences, in the language that the caller speaks. No markdown, no lists, no emoji; "
    "write numbers and symbols the way they are said. React to what the caller tells you and ask "
    "about it, and never repeat their words."
)


class ConfigError(ValueError):
    """One line: where the setting was made, its key, what was expected and what came."""


class Secret(str):
    """A key that never shows in a repr, so that no log of a `Config` can hold it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(min_length=1)]


class ServerConfig(Struct, frozen=True):
    host: Name = "127.0.0.1"
    port: Port = 8470
    api_key: Secret = Secret()
    allowed_origins: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    max_calls: Count = 4
    max_frame_bytes: Annotated[int, Meta(ge=1024)] = 1_048_576
    send_buffer_bytes: Annotated[int, Meta(ge=65_536)] = 8_388_608
    resume_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 30.0


class VadConfig(Struct, frozen=True):
    engine: Name = "silero"
    model: Name = "silero-vad"


class EndpointConfig(Struct, frozen=True):
    engine: Name = "smart-turn"
    model: Name = "smart-turn"
    threads: Count = 1


class AsrConfig(Struct, frozen=True):
    engine: Name = "whisper"
    model: Name = "whisper-base"
    language: str = ""
    threads: Count = 1


class LlmConfig(Struct, frozen=True):
    engine: Name = "llamacpp"
    model: Name = "default-llm"
    context: Annotated[int, Meta(ge=256)] = 8192
    window: Annotated[int, Meta(ge=0)] = 0
    threads: Count = 2
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.6
    max_tokens: Count = 400
    base_url: str = ""
    api_key: Secret = Secret()
    vision: bool = False


class OcrConfig(Struct, frozen=True):
    engine: Name = "rapidocr"
    threads: Count = 1


class TtsConfig(Struct, frozen=True):
    engine: Name = "auto"
    voice: str = ""
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0
    threads: Count = 2
    piper_model: Name = "piper-joe"
    kokoro_model: Name = "kokoro"


class CallConfig(Struct, frozen=True):
    instructions: str = INSTRUCTIONS
    lead_ms: Annotated[int, Meta(ge=20, le=5000)] = 160
    record_turns: str = ""


class TurnSettings(Struct, frozen=True):
    vad_threshold: Probability = 0.5
    min_speech_ms: Milliseconds = 96
    pause_ms: Annotated[int, Meta(ge=32, le=60_000)] = 96
    prefix_ms: Milliseconds = 300
    profile: Literal["quick", "normal", "patient"] = "normal"
    barge_in_ms: Milliseconds = 600
    hold_ms: Milliseconds = 550
    idle_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 40_000
    tool_wait_ms: Milliseconds = 1000


class TelephonyConfig(Struct, frozen=True):
    twilio_auth_token: Secret = Secret()
    twilio_url: str = ""


class Config(Struct, frozen=True):
    server: ServerConfig = ServerConfig()
    vad: VadConfig = VadConfig()
    endpoint: EndpointConfig = EndpointConfig()
    asr: AsrConfig = AsrConfig()
    llm: LlmConfig = LlmConfig()
    ocr: OcrConfig = OcrConfig()
    tts: TtsConfig = TtsConfig()
    call: CallConfig = CallConfig()
    turns: TurnSettings = TurnSettings()
    telephony: TelephonyConfig = TelephonyConfig()


class _Setting(NamedTuple):
    where: str
    """The file, variable or flag, as the user knows it."""
    section: str
    key: str
    value: object
    strict: bool
    """False for text (environment, flags), which may stand for a number."""


_SECTIONS: dict[str, type[Struct]] = get_type_hints(Config)
_FIELDS: dict[str, dict[str, Any]] = {
    name: get_type_hints(section, include_extras=True) for name, section in _SECTIONS.items()
}


def load_config(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Config:
    """Merge the sources. `flags` is keyed "section.key"; None means that it was not given.

    Raises `ConfigError`.
    """
    merged: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    for source in (_from_file(path), _from_environ(environ), _from_flags(flags)):
        for setting in source:
            merged[setting.section][setting.key] = _checked(setting)
    sections = {name: section(**merged[name]) for name, section in _SECTIONS.items()}
    config = Config(**sections)  # type: ignore[arg-type]  # each made by its own class above
    _require_key(config.server)
    _require_both(config.server)
    return config


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _from_file(path: Path | None) -> Iterator[_Setting]:
    if path is None:
        return
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
    except ValueError as error:  # tomllib's and UTF-8 decoding's
        raise ConfigError(f"{path}: expected TOML in UTF-8: {error}") from error
    for section, table in tables.items():
        if section not in _FIELDS:
            raise ConfigError(f"{path}: unknown section [{section}], expected {_either(_FIELDS)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section}: expected a table, got {table!r}")
        for key, value in table.items():
            yield _Setting(str(path), section, key, value, strict=True)


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Setting]:
    """Names outside our sections belong to others (CONCH_MODELS, Kubernetes' CONCH_PORT)."""
    for name, value in environ.items():
        prefix, _, rest = name.partition("_")
        section, _, key = rest.lower().partition("_")
        if prefix == "CONCH" and section in _FIELDS and key:
            yield _Setting(f"environment {name}", section, key, value, strict=False)


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Setting]:
    for name, value in flags.items():
        section, _, key = name.partition(".")
        if section not in _FIELDS:
            raise ConfigError(
                f"flag {name}: unknown section {section!r}, expected {_either(_FIELDS)}"
            )
        if value is not None:
            yield _Setting(f"flag {name}", section, key, value, strict=False)


def _checked(setting: _Setting) -> object:
    fields = _FIELDS[setting.section]
    name = f"{setting.section}.{setting.key}"
    if setting.key not in fields:
        raise ConfigError(f"{setting.where}: unknown key {name}, expected {_either(fields)}")
    wanted = fields[setting.key]
    value = setting.value
    if get_origin(wanted) is tuple and isinstance(value, str) and not setting.strict:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, wanted, strict=setting.strict, dec_hook=_secret)
    except msgspec.ValidationError as error:
        expected = str(error).partition(", got ")[0].replace("`", "")
        expected = expected[:1].lower() + expected[1:]
        came = "something else (not shown)" if wanted is Secret else repr(setting.value)
        raise ConfigError(f"{setting.where}: {name}: {expected}, got {came}") from None


def _secret(wanted: type, value: object) -> Secret:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError("Expected `str`")


def _require_key(server: ServerConfig) -> None:
    if not server.api_key and not is_loopback(server.host):
        raise ConfigError(
            f"server.host: {server.host!r} can be reached from other machines: expected an API "
            "key (--api-key or CONCH_SERVER_API_KEY), got none"
        )


def _require_both(server: ServerConfig) -> None:
    if bool(server.tls_cert) != bool(server.tls_key):
        given, missing = ("tls_cert", "tls_key") if server.tls_cert else ("tls_key", "tls_cert")
        raise ConfigError(f"server.{missing}: expected a file beside server.{given}, got none")


def _either(names: Mapping[str, object]) -> str:
    return "one of " + ", ".join(names)
