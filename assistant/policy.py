"""From the configuration and the client's turn_detection to the turn manager's policy."""

from __future__ import annotations

from assistant.config import Config, TurnSettings
from assistant.floor import Policy
from assistant.wire.settings import Defaults, TurnDetection

_EAGERNESS = {"low": 2.0, "medium": 1.0, "auto": 1.0, "high": 0.7}
"""How much longer or shorter than configured the silences are that end a turn."""


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


def turn_policy(settings: TurnSettings, detection: TurnDetection) -> Policy:
    """`server_vad` counts silence only, as its clients expect; `semantic_vad` asks the
    endpointer and scales the configured silences by its eagerness."""
    if detection.type == "server_vad":
        complete = incomplete = detection.silence_duration_ms
    else:
        factor = _EAGERNESS[detection.eagerness]
        complete = round(settings.complete_delay_ms * factor)
        incomplete = round(settings.incomplete_delay_ms * factor)
    return Policy(
        complete=complete / 1000,
        incomplete=incomplete / 1000,
        complete_probability=settings.complete_probability,
        semantic=detection.type == "semantic_vad",
        barge_in=settings.barge_in_ms / 1000,
        hold=settings.hold_ms / 1000,
        create_response=detection.create_response,
        interrupt_response=detection.interrupt_response,
    )
