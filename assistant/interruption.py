"""What speech over a reply is: an interruption, a backchannel, an echo, or nothing (step 6).

Pure. The reply is held while this is open, so every answer is reversible but one: INTERRUPT.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

_FAINT = 10.0
"""dB under the caller's usual level from which a voice is somebody else's: the television, or a
person across the room."""
_WEAK = 6.0
"""dB under it from which a voice has to be clear, too: voices in the background, of which a
recogniser makes some words, before the caller has been heard at all."""
_UNDERSTOOD = 0.5
"""Confidence under which a weak voice has not been understood: most babble lies below, no caller
who is only quiet, and one in five in a room that echoes, too (docs/turn-taking.md)."""
_GUESSED, _HASTY, _DOUBTFUL, _FAIR, _CLEAR = 0.25, 0.3, 0.35, 0.45, 0.6
"""Confidence under which a brief question or "stop" is what a recogniser makes of a noise; under
which "stop" is when the speech goes on; under which other words are; from which words of speech
that goes on are believed; and from which even a short one is: it writes "I'm him" for a hummed
assent."""
_BRIEF, _BRIEF_WORD = 0.65, 0.85
"""Seconds of speech that a hummed or murmured assent hardly exceeds, and one that is recognised as
a single doubtful word."""
_PACE, _AHEAD = 5, 1
"""Words that a second of speech holds, and how many more are believed: of a first syllable the
recogniser makes a whole sentence."""
_ALIKE, _SHORTEST = 0.78, 4
"""Likeness by letters, and their number, from which unclear words are a backchannel, misheard."""
_REMNANT = 3
"""Letters of the words, at most two, that are made of the breath after a backchannel: "of course
it"."""
_OWN_WORDS = 0.7
"""Part of the words that the reply itself has just said, from which they are its echo."""
_SOUNDS_LIKE, _LONG_ENOUGH = 0.8, 3
"""Likeness by letters, and number of words, from which unclear words are those of the reply,
misheard: an echo's "I didn't drop" for "I didn't stop"."""
_LASTING, _LASTING_UNCLEAR = 0.6, 0.85
"""Seconds of speech, with a word in it that is clear or not, that take the floor."""
_LATE = 0.9
"""Seconds of speech, still going on, after which doubtful words are not enough any more: a caller
who wants the floor has become clearer by then, and voices in the background have not."""
_EARLY = 1.0
"""A reply younger than this, in seconds, is harder to interrupt: its caller may only be ending
a sentence, or be answering the tone with which it began."""

_BACKCHANNELS = frozenset(
    "m h mm mhm mmhm hm hmm hmmm mmm mm-hmm mm-hm mhmm uh-huh uhhuh uh huh um ah aha oh yeah "
    "yep yup yes okay ok right sure wow really good great nice cool interesting true exactly "
    "absolutely indeed lovely wonderful amazing alright "
    "ja genau aha stimmt oui d'accord ouais sí claro vale ajá sì certo sim "
    "嗯 哦 噢 啊 哈 对 是 好 喔 うん はい ええ 네 응".split()
)
_PHRASES = (
    "i see", "got it", "of course", "all right", "i know", "i understand", "no way", "that's right",
    "that's nice", "that's great", "that's interesting", "that's true", "that's good",
    "that is nice", "that is great", "that is interesting", "that is true", "that is right",
    "that is good",
    "makes sense", "make sense",
    "that makes sense", "go on", "fair enough", "good point", "oh dear", "oh my",
    "my goodness", "you're right",
    "是的", "好的", "真的", "明白", "懂了", "没错", "原来如此", "そうですね", "なるほど",
)  # fmt: skip
"""Said by a listener who does not want the floor."""
_STOP = (
    "wait", "stop", "no", "hold on", "hang on", "hold it", "excuse me", "pause", "enough",
    "shut up", "be quiet", "quiet", "never mind", "that's enough", "one moment", "just a moment",
    "just a second", "one second", "let me", "can i", "may i", "sorry", "pardon", "actually",
    "but", "listen", "halt", "nein", "warte", "arrête", "attends", "non", "para", "espera",
    "等一下", "等等", "等下", "停", "别说了", "不对", "不是", "不要", "打住", "慢着", "不", "安静",
    "待って", "ストップ", "잠깐", "그만",
)  # fmt: skip
"""Beginnings that stop, contradict or ask to speak: no more words are needed."""
_ASK = (
    "what", "who", "whose", "why", "when", "where", "which", "how", "what's", "who's", "where's",
    "is it", "is he", "is she", "is that", "is there", "is this", "are", "do you", "do i", "does",
    "did", "can you", "could you", "will", "would", "should",
    "again", "say", "repeat", "louder", "speak up", "slow", "slower", "too", "forget it", "not",
    "tell me", "next", "another", "go back", "help", "skip", "explain", "turn", "show", "give",
    "play", "change", "find", "read", "call", "start", "more", "less",
    "was", "wer", "wie", "wo", "wann", "warum", "nochmal", "lauter", "quoi", "qui", "comment",
    "pourquoi", "où", "quand", "combien", "qué", "quién", "cómo", "dónde", "cuándo", "cuánto",
    "什么", "谁", "为什么", "哪", "怎么", "多少", "几", "再说", "大声", "慢点",
    "なに", "何", "だれ", "どこ",
)  # fmt: skip
"""Beginnings of a question or a wish: said alone they are brief, and never a backchannel."""
_LETTERS = {"b": "be", "c": "see", "k": "okay", "o": "oh", "r": "are", "u": "you", "y": "why"}
"""A recogniser may write a word that is a letter's name as the letter."""
_THINKING = (
    "let me think", "let me see", "let's see", "give me a second", "give me a moment",
    "give me a minute", "hmm", "hm", "um", "uh", "uhm", "er", "erm", "mm", "well", "so", "i mean",
    "you know", "how do i put it", "what was it", "what's the word",
    "让我想想", "我想想", "嗯", "呃", "那个",
)  # fmt: skip
_SENTENCE_END = re.compile(r"[.!;:。！；：\n]+")
_OPENING = re.compile(r"^\s*(?:(?:please|and|but|so|then|now|well)\b[\s,]*)*", re.IGNORECASE)
_TOKEN = re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]|[^\W_](?:[\w'’-]*\w)?")


class Verdict(enum.Enum):
    INTERRUPT = "interrupt"
    LET_GO = "let go"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Speech over a reply, as far as it is known."""

    words: str | None
    """The likeliest words so far; None until the recogniser has answered."""
    final: bool
    """The speech is over and these are all of its words."""
    speech: float
    """Seconds of it so far."""
    age: float
    """Seconds of the reply that were out when it began."""
    confidence: float = 1.0
    echoed: float = 0.0
    """Part of the words that the reply has just said itself, in [0, 1]."""
    below: float = 0.0
    """dB under the caller's usual level."""
    answers: bool = False
    """The reply has ended with a question: "yes" is an answer to it."""


def judge(candidate: Candidate) -> tuple[Verdict, str]:  # noqa: C901, PLR0911  # a table
    """What it is by now, and why."""
    c = candidate
    if c.words is None:
        return Verdict.OPEN, "not yet recognised"
    words = tokens(c.words)
    undecided = Verdict.LET_GO if c.final else Verdict.OPEN
    if c.echoed >= _OWN_WORDS and len(words) > 1:
        return undecided, "the reply's own words"
    if is_faint(c.below) and not (c.final and stops(c.words)):
        return undecided, f"{c.below:.0f} dB under the caller"
    if not words:
        return undecided, "no words"
    short = c.final and c.speech < _BRIEF_WORD
    if c.confidence >= (_GUESSED if short else _HASTY):
        if stops(c.words):
            return Verdict.INTERRUPT, f"asks to stop: {c.words.strip()}"
        if short and asks(c.words) and c.echoed < _OWN_WORDS:
            return Verdict.INTERRUPT, f"asks: {c.words.strip()}"
    doubtful = _DOUBTFUL if c.final or c.speech < _LATE else _FAIR
    doubtful = _CLEAR if is_weak(c.below) else doubtful
    if c.confidence < doubtful * (1 if len(words) > 1 else 0.7):
        return undecided, f"doubtful words: {c.words.strip()}"
    if is_backchannel(c.words) or (_unclear(c) and _nearly_backchannel(words, c.words)):
        if c.final and c.answers:
            return Verdict.INTERRUPT, f"an answer: {c.words.strip()}"
        return undecided, f"backchannel: {c.words.strip()}"
    early = c.age < _EARLY
    guess = len(words) == 1 and c.confidence < _FAIR
    brief = c.speech < (_BRIEF_WORD if guess else _BRIEF) and len(words) <= 2
    if c.final and brief and c.confidence < _CLEAR:
        return Verdict.LET_GO, f"brief and unclear: {c.words.strip()}"
    lasting = _LASTING if len(words) > 1 or c.confidence >= _CLEAR else _LASTING_UNCLEAR
    many = len(words) >= 3 + early and (c.confidence >= _CLEAR or _plausible(c, len(words)))
    if c.final or many or c.speech >= lasting * (1 + early / 2):
        return Verdict.INTERRUPT, f"wants the floor: {c.words.strip()}"
    return Verdict.OPEN, f"too little: {c.words.strip()}"


def _unclear(candidate: Candidate) -> bool:
    """Whether other words may have been said, or may still be to come."""
    return candidate.confidence < _CLEAR or not candidate.final


def _plausible(candidate: Candidate, words: int) -> bool:
    """Whether doubtful words can be what was said so far."""
    return candidate.confidence >= _FAIR and words <= _AHEAD + _PACE * candidate.speech


def is_weak(below: float) -> bool:
    """Whether a voice `below` dB under the caller's has to be clear."""
    return below >= _WEAK


def is_murmur(below: float, confidence: float) -> bool:
    """Whether words of a voice `below` dB under the caller's are only what a recogniser makes of
    people in the background, none of whom can be understood."""
    return is_weak(below) and confidence < _UNDERSTOOD


def is_faint(below: float) -> bool:
    """Whether a voice `below` dB under the caller's is taken for somebody else's."""
    return below >= _FAINT


def tokens(text: str) -> list[str]:
    """Words in lower case, of Chinese and Japanese the characters."""
    found = _TOKEN.findall(text.lower().replace("’", "'"))
    return [_LETTERS.get(word, word) for word in found]


def same_words(one: str, other: str) -> bool:
    """Whether two transcripts differ in case and punctuation at most."""
    return tokens(one) == tokens(other)


def is_backchannel(text: str) -> bool:
    """Whether `text` is nothing but backchannels ("mm-hmm", "yeah, right"), or empty."""
    return not _beyond(tokens(text), _BACKCHANNEL_PHRASES)


def thinks_aloud(text: str) -> bool:
    """Whether the caller only looks for words ("hmm, let me think"); they are left alone."""
    words = tokens(text)
    return bool(words) and not _beyond(words, _THINKING_PHRASES)


def stops(text: str) -> bool:
    """Whether `text` begins, after backchannels, with words that stop, contradict or ask."""
    words = _beyond(tokens(text), _BACKCHANNEL_PHRASES)
    return any(words[: len(phrase)] == phrase for phrase in _STOP_PHRASES)


def asks(text: str) -> bool:
    """Whether `text` begins, after backchannels, as a question or a wish does."""
    words = _beyond(tokens(text), _BACKCHANNEL_PHRASES)
    words = words[1:] if words[:1] == ["and"] else words
    return any(words[: len(phrase)] == phrase for phrase in _ASK_PHRASES)


def tells(text: str) -> bool:
    """Whether `text` only tells something: no sentence of it asks or wishes."""
    if not tokens(text) or "?" in text or "？" in text:
        return False
    sentences = (_OPENING.sub("", sentence) for sentence in _SENTENCE_END.split(text))
    return not any(asks(sentence) for sentence in sentences)


def _nearly_backchannel(words: list[str], text: str) -> bool:
    """Whether unclear words, the tokens of `text`, are a backchannel with a breath behind it, or
    sound like one."""
    left = _beyond(words, _BACKCHANNEL_PHRASES)
    if len(left) < len(words) and len(left) <= 2 and all(len(word) <= _REMNANT for word in left):
        return True
    letters = "".join(words)
    question = text.rstrip().endswith(("?", "？"))
    return (
        not question
        and len(letters) >= _SHORTEST
        and bool(get_close_matches(letters, _BACKCHANNEL_LETTERS, 1, _ALIKE))
    )


def echoed(text: str, spoken: str, confidence: float = 1.0) -> float:
    """Part of the words of `text` that stand, in this order, in what was just `spoken`; all of
    them where they are unclear and sound like a stretch of it."""
    words, said = tokens(text), tokens(spoken)
    if confidence < _CLEAR and len(words) >= _LONG_ENOUGH and _sounds_like(words, said):
        return 1.0
    matcher = SequenceMatcher(a=words, b=said, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / max(len(words), 1)


def _sounds_like(words: list[str], said: list[str]) -> bool:
    """Whether the words are, letter by letter, nearly those of some stretch of what was said."""
    size = len(words)
    stretches = [" ".join(said[at : at + size]) for at in range(len(said) - size + 1)]
    return bool(get_close_matches(" ".join(words), stretches, 1, _SOUNDS_LIKE))


def _beyond(words: list[str], phrases: list[list[str]]) -> list[str]:
    """The words from the first one on that does not belong to one of the phrases."""
    while words:
        size = next((len(p) for p in phrases if words[: len(p)] == p), 0)
        if not size:
            break
        words = words[size:]
    return words


def _longest_first(*phrases: str) -> list[list[str]]:
    return sorted((tokens(phrase) for phrase in phrases), key=len, reverse=True)


_BACKCHANNEL_PHRASES = _longest_first(*_PHRASES, *_BACKCHANNELS)
_BACKCHANNEL_LETTERS = ["".join(phrase) for phrase in _BACKCHANNEL_PHRASES]
_STOP_PHRASES = _longest_first(*_STOP)
_ASK_PHRASES = _longest_first(*_ASK)
_THINKING_PHRASES = _longest_first(*_THINKING)
