"""Words against words: what was understood, what was heard, without regard to case and marks."""

from __future__ import annotations

import re

import jiwer

_FILLERS = frozenset("um uh uhm erm hm hmm mm ah".split())
_RUN = 3
"""Words in a row that one side lacks: fewer are a recogniser's slip, so many are lost audio."""


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())


def words(text: str) -> list[str]:
    """Without the fillers, which a recogniser may write or leave out."""
    return [word for word in plain(text).split() if word not in _FILLERS]


def word_error_rate(asked: list[str], understood: list[str]) -> float:
    return float(jiwer.wer([plain(text) for text in asked], [plain(t) for t in understood]))


def errors(said: str, understood: str) -> int:
    """Words wrong, missing or too many."""
    return _distances(words(understood), words(said))[-1]


def right(said: str, understood: str, alone: str) -> bool:
    """Whether it was understood as well as by the recogniser `alone`, or all but a fifth of it."""
    return errors(said, understood) <= max(errors(said, alone), len(words(said)) // 5)


def heard_error(written: str, kept: str, recognised: str) -> int:
    """By how many words the text kept as heard is longer or shorter than what was `recognised` of
    the audio played: the beginning of `written` that is most like it."""
    heard = words(recognised)
    distances = _distances(heard, words(written))
    likely = min(range(len(distances)), key=lambda n: (distances[n], abs(n - len(heard))))
    return abs(likely - len(words(kept)))


def once(written: str, recognised: str) -> bool:
    """Whether the audio holds every word once, as far as a recogniser can tell."""
    if not words(written):
        return not words(recognised)
    found = jiwer.process_words(" ".join(words(written)), " ".join(words(recognised)))
    return not any(
        chunk.type in {"insert", "delete"}
        and max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        >= _RUN
        for chunk in found.alignments[0]
    )


def _distances(heard: list[str], said: list[str]) -> list[int]:
    """The edit distance of `heard` to each beginning of `said`, the empty one first."""
    row = list(range(len(said) + 1))
    for count, word in enumerate(heard, start=1):
        before, row = row, [count]
        for at, other in enumerate(said, start=1):
            row.append(min(before[at] + 1, row[at - 1] + 1, before[at - 1] + (word != other)))
    return row
