"""Words that a listener says without wanting the floor."""

from __future__ import annotations

import re

_BACKCHANNELS = frozenset(
    "mm mhm mmhm hm hmm hmmm mmm mm-hmm mm-hm uh-huh uhhuh uh huh ah oh aha yeah yep yes okay ok "
    "right sure wow really i see got it good great nice cool interesting true exactly "
    "嗯 嗯嗯 哦 噢 啊 对 对对 是 是的 好 好的 喔 真的 明白 懂了".split(" ")
) | {"uh huh", "i see", "got it", "of course", "all right", "oh okay", "oh yeah", "oh wow"}
_WORDS = re.compile(r"[\w'-]+")


def is_backchannel(text: str) -> bool:
    """Whether `text` is nothing but backchannels ("mm-hmm", "yeah, right"), or empty."""
    words = _WORDS.findall(text.lower())
    return " ".join(words) in _BACKCHANNELS or all(word in _BACKCHANNELS for word in words)
