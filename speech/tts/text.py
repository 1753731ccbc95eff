"""From what a language model writes to what can be said, and where in it each word ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = "\0"
"""Stands for a character that is not spoken, so that offsets into the text stay true."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_FULL_WIDTH = "\u3000-\u303f\uff00-\uffef"
_WORD = re.compile(rf"[{_HAN}][{_FULL_WIDTH}]*|[^\s{_HAN}]+")
_SPEAKABLE = re.compile(r"[^\W_]")

_UNSPOKEN = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^\s*```.*$",  # the fence, not the code
        r"^\s*(?:#{1,6}|>|[-*+•])\s+",  # heading, quotation, bullet
        r"^\s*(?:[-*_]\s*){3,}$",  # rule
        r"!?\[(?=[^\]\n]*\]\()",  # a link's opening bracket
        r"(?<=[^\s\[])\]\([^)\s]*\)",  # and its address
        r"\*+|`+|~~|(?<!\w)_+|_+(?!\w)",  # emphasis, code
        (
            "[\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff\u20e3\u2190-\u21ff\u2300-\u23ff\u2460-\u27bf"
            "\u2b00-\u2bff\U0001f000-\U0001faff\U000e0000-\U000e007f]"
        ),  # emoji, arrows, marks
    )
)
_SENTENCE = re.compile(r"[.!?…。！？]+[\"'”’)\]」』]*$")
_ABBREVIATION = re.compile(r"^(?:dr|mr|mrs|ms|st|prof|vs|etc|no|e\.g|i\.e|[a-z])\.$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SpokenWord:
    text: str
    """With its punctuation, without markup."""
    end: int
    """Characters of the original text up to here, markup behind the word included."""


def spoken_words(text: str) -> tuple[SpokenWord, ...]:
    """The words of `text` without Markdown and emoji; of Chinese, the characters.

    A line that ends without punctuation gets a full stop, for the pause it stands for. Empty
    when nothing in the text can be said."""
    bare = text
    for pattern in _UNSPOKEN:
        bare = pattern.sub(lambda match: _blanked(match.group()), bare)
    made: list[SpokenWord] = []
    for match in _WORD.finditer(bare):
        word = match.group().replace(_GONE, "")
        if not word:
            continue
        if not _SPEAKABLE.search(word) and made:
            # A lone dash or bracket: it may shape the pause, it is no word to be counted.
            made[-1] = SpokenWord(made[-1].text + " " + word, match.end())
            continue
        rest = bare[match.end() :].lstrip(_GONE + " \t")
        pause = "." if rest.startswith("\n") and word[-1].isalnum() else ""
        made.append(SpokenWord(word + pause, match.end()))
    if not any(_SPEAKABLE.search(word.text) for word in made):
        return ()
    return tuple(made)


def sentences(words: tuple[SpokenWord, ...]) -> Iterator[tuple[SpokenWord, ...]]:
    """Runs of words up to one that ends a sentence; `Dr.` and the like do not."""
    start = 0
    for number, word in enumerate(words, 1):
        ends = _SENTENCE.search(word.text) and not _ABBREVIATION.match(word.text)
        if ends or number == len(words):
            yield words[start:number]
            start = number


def has_chinese(text: str) -> bool:
    """Whether any character of `text` is Han."""
    return re.search(f"[{_HAN}]", text) is not None


def joined(words: tuple[SpokenWord, ...]) -> str:
    """The words as one line: with spaces, but none between Chinese characters."""
    line = ""
    for word in words:
        touching = has_chinese(line[-1:] + word.text[:1]) or line[-1:] in "，。！？、；："
        line += ("" if touching or not line else " ") + word.text
    return line


def _blanked(markup: str) -> str:
    return "".join(char if char == "\n" else _GONE for char in markup)
