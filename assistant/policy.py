"""From the configuration and the client's turn_detection to the turn manager's policy."""

from __future__ import annotations

from assistant.config import Config, TurnSettings
from assistant.floor import Policy
from assistant.window import Window
from assistant.wire.settings import Defaults, TurnDetection

_PROFILES = {"low": "patient", "high": "quick"}
"""What an eagerness asks for; any other leaves it to the configuration."""

_WINDOW, _WINDOW_ON_CPU = 6000, 1200
_PICTURE = 1000
"""Tokens of one picture, about."""


def defaults(config: Config, model: str) -> Defaults:
    """What a new session is given; `model` is echoed to the client."""
    return Defaults(
        model=model,
        instructions=config.call.instructions,
        voice=config.tts.voice,
        speed=config.tts.speed,
        transcription_model=config.asr.model,
        language=config.asr.language,
        temperature=config.llm.temperature,
        max_tokens=config.llm.max_tokens,
    )


def window(config: Config, *, sees: bool = False) -> Window:
    """What of a long call the model is given, which `sees` pictures or is told of them. In this
    process, on the CPU, 1000 tokens more delay the first token of each reply by a third:
    docs/models.md, "Long calls"."""
    usual = _WINDOW_ON_CPU if config.llm.engine == "llamacpp" else _WINDOW
    picture = _PICTURE if sees else 0
    return Window.within(config.llm.window or usual, config.llm.context, picture)


def turn_policy(settings: TurnSettings, detection: TurnDetection | None) -> Policy:
    """`server_vad` counts silence only, as its clients expect; `semantic_vad` weighs what is
    known of the pause, as patiently as its eagerness says. None: push-to-talk."""
    if detection is None:
        return Policy(profile="", idle=0.0, tool_wait=settings.tool_wait_ms / 1000)
    semantic = detection.type == "semantic_vad"
    profile = _PROFILES.get(detection.eagerness, settings.profile)
    idle = settings.idle_ms if detection.idle_timeout_ms is None else detection.idle_timeout_ms
    return Policy(
        profile=profile if semantic else "",
        silence=detection.silence_duration_ms / 1000,
        barge_in=settings.barge_in_ms / 1000,
        hold=settings.hold_ms / 1000,
        idle=idle / 1000,
        tool_wait=settings.tool_wait_ms / 1000,
        create_response=detection.create_response,
        interrupt_response=detection.interrupt_response,
    )
