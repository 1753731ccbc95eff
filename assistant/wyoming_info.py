"""What Conch says of itself to Home Assistant: the Wyoming protocol's `info`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
)

from assistant.config import Config
from assistant.engines import Engines

LANGUAGES = tuple(
    (
        "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha "
        "haw he hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr "
        "ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg "
        "th tk tl tr tt uk ur uz vi yi yo zh yue "
    ).split()
)
"""What a multilingual Whisper model was trained on (its tokenizer's language codes)."""
_CONCH = Attribution("Conch", "")


def describe(config: Config, engines: Engines) -> Info:
    languages = list(LANGUAGES)
    if config.asr.language or config.asr.model.endswith(".en"):
        languages = [config.asr.language or "en"]
    return Info(
        asr=[
            AsrProgram(
                **_artifact("conch", "Speech recognition"),
                models=[
                    AsrModel(
                        **_artifact(config.asr.model, "Speech recognition"), languages=languages
                    )
                ],
                supports_transcript_streaming=True,
            )
        ],
        tts=[
            TtsProgram(
                **_artifact("conch", "Speech synthesis"),
                voices=[
                    TtsVoice(
                        **_artifact(voice.name, f"{voice.name} ({voice.gender})"),
                        languages=[voice.language],
                    )
                    for voice in engines.synthesizer.voices
                ],
                supports_synthesize_streaming=True,
            )
        ],
        handle=[
            HandleProgram(
                **_artifact("conch", "Conversation"),
                models=[
                    HandleModel(**_artifact(engines.llm.name, "Conversation"), languages=languages)
                ],
                supports_handled_streaming=True,
            )
        ],
    )


def _artifact(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "attribution": _CONCH,
        "installed": True,
        "description": description,
        "version": version("conch"),
    }
