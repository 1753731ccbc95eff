"""Streaming text in, speakable clauses out; the first one short, because it decides the latency.

A clause can end in three ways, tried from left to right: at a mark (sentence or clause
punctuation, a line break), at a natural word boundary (before a conjunction or preposition)
when many words came without one, and, as a last resort, at any word boundary. How many words
each of these needs grows from the first clause to the third: while the caller hears a short
first clause, there is little time to write and speak the second. Numbers, times, abbreviations
and URLs need no rule of their own: an ASCII mark counts only before white space.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

CJK = "\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Characters that are words by themselves (a regular expression's character class)."""


class Ramp(NamedTuple):
    """Words that a clause needs before it may end in each way. A CJK character is a word."""

    sentence: int
    clause: int
    natural: int
    forced: int


FIRST, SECOND, LATER = Ramp(2, 2, 3, 5), Ramp(2, 5, 9, 13), Ramp(2, 12, 20, 30)
MAX_CHARS, MAX_WORDS = 200, 40

_SENTENCE = set(".!?。！？")
_BROAD = set("。！？；：，、…—")
"""Marks that need no white space after them."""
_CLOSERS = "\"'”’)]}»」』）】*_"
_HAN_LINKS = "而且|但是|因为|所以|或者|如果|并且|然后|以及|不过|虽然|那么"
_EDGE = re.compile(
    rf"(?P<mark>[.!?…,;:—–。！？；：，、]{{1,20}}[{re.escape(_CLOSERS)}]{{0,5}})"
    r"(?P<gap>\s{0,20})"
    rf"|(?P<space>\s{{1,20}})"
    rf"|(?<=[{CJK}])(?={_HAN_LINKS})"
)
"""Where a clause could end. The counts are bounded so that a decision never waits for long."""
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}][^\s—…{CJK}]*")
_HAN = re.compile(f"[{CJK}]")
_NEXT = re.compile(r"[^\W\d_]{1,30}")
_LIST_NUMBER = re.compile(r"(?:^|[\n.!?:;])\s*\d{1,3}$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_TITLES = frozenset(
    "dr mr mrs ms prof st vs etc inc ltd co corp jr sr approx fig gen col lt sgt capt rev hon mt "
    "ave blvd dept est cf al vol ed".split()
)
_LINKS = frozenset(
    "and but or so because which who where when while if unless although though with without for "
    "from in into on at by about after before through during as since until than like between "
    "over under".split()
)
_VERBS = frozenset(
    "is are was were has have had can could will would should may might must does did".split()
)
"""A long subject may be followed by a breath before these."""
_LEANING = _LINKS | frozenset(
    "the a an of to my your his her its our their this that these those is are was were be am not "
    "no very can will would could should may might must do does did has have had i you "
    "he she it we they there's it's i'm i'll i've you're we're that's what how".split()
)
"""Words that lean on the next one: a clause that is cut after them sounds broken off."""
_NEVER = MAX_CHARS + 1


class ClauseCutter:
    """Cuts one reply. What it returns depends on the text alone, not on how it was pushed.

    The clauses, joined, are exactly the text. A clause without a letter or digit happens only
    at the very end of a text, or when MAX_CHARS signs follow one another."""

    def __init__(self, ramp: tuple[Ramp, ...] = (FIRST, SECOND, LATER)) -> None:
        self._ramp = ramp
        self._cuts = 0
        self._text = ""

    def push(self, text: str) -> list[str]:
        """The clauses that can be spoken now that `text` came."""
        self._text += text
        return self._take(final=False)

    def flush(self) -> list[str]:
        """The rest, at the end of the text. The cutter then starts a new reply."""
        clauses = self._take(final=True)
        if self._text:
            clauses.append(self._text)
        self._text, self._cuts = "", 0
        return clauses

    def _take(self, *, final: bool) -> list[str]:
        clauses: list[str] = []
        start = 0
        while True:
            ramp = self._ramp[min(self._cuts, len(self._ramp) - 1)]
            window = self._text[start : start + 2 * MAX_CHARS]
            size = _cut(window, ramp, final=final and start + len(window) == len(self._text))
            if not size:
                self._text = self._text[start:]
                return clauses
            clauses.append(window[:size])
            start += size
            self._cuts += 1


def _cut(text: str, ramp: Ramp, *, final: bool) -> int:
    """Length of the clause that `text` starts with; 0 while undecided, or at the last one."""
    words = [word.start() for word in _WORD.finditer(text)]
    over = min(words[MAX_WORDS] if len(words) > MAX_WORDS else MAX_CHARS, MAX_CHARS)
    last_boundary = 0
    for edge in _EDGE.finditer(text):
        at = edge.end("mark") if edge["mark"] else edge.start()
        if at > over:
            break
        if edge.end() == len(text):
            if final:
                break
            return 0  # what comes next may change what this edge is
        if edge["mark"]:
            need = _words_at_mark(text, edge, ramp)
        elif edge["space"]:
            last_boundary = at
            need = _words_at_space(text, edge, "", ramp)
            following = _NEXT.match(text, edge.end())
            if following and bisect_left(words, at) < need:
                if following.end() == len(text) and not final:
                    return 0
                need = _words_at_space(text, edge, following[0], ramp)
        else:
            need = ramp.natural
        if bisect_left(words, at) >= need:
            return at
    lookahead = 0 if final else 2
    return (last_boundary or over) if len(text) > over + lookahead else 0


def _words_at_mark(text: str, edge: re.Match[str], ramp: Ramp) -> int:
    """How many words a clause needs to end at this mark."""
    before, after = text[: edge.start()], text[edge.end("mark")]
    sign = edge["mark"].rstrip(_CLOSERS)
    if before[-1:].isdigit() and after.isdigit():
        return _NEVER
    if not (edge["gap"] or sign[-1] in _BROAD or _HAN.match(after)):
        return _NEVER
    if sign == "." and (_abbreviated(_last_token(before)) or _LIST_NUMBER.search(before)):
        return _NEVER
    return ramp.clause if _SENTENCE.isdisjoint(sign) or ".." in sign else ramp.sentence


def _words_at_space(text: str, edge: re.Match[str], following: str, ramp: Ramp) -> int:
    """How many words a clause needs to end before this white space."""
    if "\n" in edge["space"]:
        return ramp.sentence
    token = _last_token(text[: edge.start()])
    leans = token.lower() in _LEANING or token[-1:].isdigit()
    if leans or (token.endswith(".") and _abbreviated(token[:-1])):
        return _NEVER
    if following.lower() in _VERBS:
        return min(ramp.natural + 1, ramp.forced)
    return ramp.natural if following.lower() in _LINKS else ramp.forced


def _last_token(text: str) -> str:
    """The last word of `text` with the marks after it, without opening quotes or brackets."""
    return text.rsplit(maxsplit=1)[-1].lstrip("([\"'“‘*_") if text.strip() else ""


def _abbreviated(token: str) -> bool:
    """Whether a full stop after `token` belongs to a title or to initials (Dr., e.g., U.S.)."""
    return token.lower() in _TITLES or bool(_INITIALS.fullmatch(token))
