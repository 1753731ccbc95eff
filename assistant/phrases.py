"""The few sentences that the assistant says of its own accord, by language."""

from __future__ import annotations

from typing import Literal

PhraseName = Literal["not_understood", "engine_failed", "still_there", "one_moment"]

_PHRASES: dict[PhraseName, dict[str, str]] = {
    "not_understood": {
        "en": "Sorry, I didn't catch that. Could you say it again?",
        "zh": "抱歉，我没有听清楚，请再说一遍好吗？",
    },
    "engine_failed": {
        "en": "Sorry, something went wrong on my side. Please try again.",
        "zh": "抱歉，我这边出了点问题，请再试一次。",
    },
    "still_there": {
        "en": "Are you still there? Take your time.",
        "zh": "您还在吗？不着急，慢慢来。",
    },
    "one_moment": {
        "en": "One moment, I'm looking that up.",
        "zh": "请稍等，我查一下。",
    },
}


def phrase(name: PhraseName, language: str) -> str:
    """The sentence in `language` (ISO 639-1), in English where it is not translated."""
    texts = _PHRASES[name]
    return texts.get(language[:2].lower(), texts["en"])
