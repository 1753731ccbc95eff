"""What a turn's words say about its end: does the sentence want more? What was asked?

Pure, and by lists: the words that English and Chinese sentences seldom end in, the shapes of
their questions. Text in other languages has its punctuation only. Every signal is a number in
[0, 1] that is 0 where nothing is known, so that a weight each is all that a model needs.
"""

from __future__ import annotations

import re

_TAIL = 600
"""Characters of a long turn that are looked at."""

_ENGLISH = {
    "hanging": (
        "a an the my your his its our their these those every some any "
        "and or but because if when while although though than as whether nor "
        "i we they he she who which whose where "
        "very really quite such another many several "
        "i'm we're they're you're he's she's it's that's there's i'd i'll we'll i've we've let's "
        "can't don't won't didn't isn't doesn't wasn't couldn't "
        "into of until without between during per plus called named"
    ),
    "leaning": (
        "to for with in on from at by about over after before near behind through under like "
        "so that this no more most too "
        "is are was were am be been being have has had do does did will would could should can "
        "may might must shall used going "
        "not just also then what how what's maybe even only still always never"
    ),
    "wanting": (
        "want need like get make put find bring take give tell show send buy add call ask let "
        "think know say said says see wondering looking trying remember keep set play read "
        "write turn book use wear wants needs likes got made took gave told went came "
        "thinking planning talking working feel felt seem seems"
    ),
    "filler": "um uh er erm hmm mm ah eh well so like anyway actually basically",
    "verb": (
        "is are was were am be been have has had do does did will would could should can may "
        "might must shall want need like get make put find bring take give tell show send buy add "
        "call ask let think know say said says see wondering looking remember mean keep set play "
        "read write turn book order use go goes went come came wants needs likes got made took "
        "gave told cannot speak start stop open close help explain cancel move note change talk "
        "i'm i'd i'll i've we're we've we'll it's that's there's what's who's where's how's let's "
        "don't doesn't didn't can't won't isn't aren't wasn't couldn't wouldn't haven't hasn't "
        "he's she's you're they're lived live lives loved hurts slept met fell heard wrote grew "
        "left lost saw knew thought felt became began bought built ate drank drove ran sat stood "
        "taught broke kept"
    ),
    "opener": (
        "if when because since although though while after before once unless as whenever first"
    ),
}
"""Words that: almost never end a sentence; end one only sometimes; mostly take an object; fill
a gap; make a clause of a sentence; open one that another must follow."""
_LISTS = {name: frozenset(words.split()) for name, words in _ENGLISH.items()}
_PRONOUNS = frozenset(
    "i you he she it we they that this there one anybody anyone someone these those".split()
)
_HELPERS = frozenset("do does did can could will would shall should must may might".split())
_QUESTIONERS = frozenset("what when where which who whose how why and so but then".split())
"""Words that a helper verb may follow in front of its subject."""
_ENDINGS = frozenset("and or please thanks thank".split())
"""Words that close a list."""
_GIVING = frozenset("tell give show send remind bring get let make ask find buy teach".split())
_COMMON = frozenset().union(*_LISTS.values()) | frozenset(
    "you it me him her us them yes no okay thanks hello all one two".split()
)
_FOREIGN = frozenset(
    "der das und ich nicht ist ein eine mit auf zu es le la les et est pas que je un une des el "
    "los en por para con il di che non per sono una os não com de du van het een och att "
    "det jag nie jest się".split()
)
"""Words by which other languages in Latin letters are known."""

_CHINESE = {
    "hanging": re.compile(
        r"(?:的|和|跟|与|或|或者|还是|因为|所以|但是|可是|不过|然后|而且|并且|如果|还有|就是|在|把|被|给|对|从|向|"
        r"为了|关于|嗯|呃|额|唔|怎么说|以及|我|你们|我们|他们|这|那|这些|那些|一个|两个|这个|那个|很|最|太|更|比|第|每|叫|"
        r"是因为|的时候|之后|以后|以前)$"
    ),
    "leaning": re.compile(r"(?:是|有|去|到|来|会|能|要|也|都|还|又|再|就|才|没|不)$"),
    "wanting": re.compile(
        r"(?:想|想要|需要|找|买|帮我|告诉我|提醒我|觉得|知道|喜欢|打算|记得|请)$"
    ),
    "opener": re.compile(r"^(?:如果|因为|虽然|要是|只要|每次|当|自从|首先)"),
}
_COMPLETE = re.compile(
    r"^(?:好的|是的|对的|真的|对|没有|可以|不|不要|我|都可以|还有|是|有|会|能|要)$"
)
_DIGITS = 10
"""Of a telephone number; with as many no number is half said."""
_HAN = re.compile(r"[\u3400-\u9fff]")

_SENTENCE = re.compile(r"(?<=[.!?。！？…])\s+|(?<=[。！？])(?=[^\s。！？])")
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:['’.,:-][^\W_]+)*")
_NUMERAL = re.compile(r"^\W*(?:\d[\d.,:-]*|[a-z]|oh)$")
_CHINESE_NUMERAL = re.compile(r"[零一二三四五六七八九十百千两〇\d]+$")
_NUMBERS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand double triple point half".split()
)
_MORE = frozenset("hundred thousand double triple point half twenty thirty forty fifty".split())

_INVITATION = re.compile(
    r"\btell me\b|\bdescribe\b|\bwhat was (?:it|that|life)\b|\bwhat happened\b|\bexplain\b|"
    r"\bhow (?:was|did|do|come)\b|\bwhy\b|\btalk about\b|\bremember\b|\bwhat is the matter\b|"
    r"讲讲|说说|聊聊|谈谈|什么样|为什么|怎么(?!读|写)|发生了什么"
)
_WISH = re.compile(r"\btell me\b|\bdescribe\b|\bexplain\b|\btalk about\b")
"""However politely it is put: "could you tell me about" is no question for a yes."""
_CLOSED = re.compile(
    r"^(?:(?:and|so|okay|ok|well|then),? )?(?:is|are|am|was|were|do|does|did|have|has|had|will|"
    r"would|shall|should|can|could|may|might|must|isn't|aren't|don't|didn't|won't)\b|\bor\b|"
    r"吗|还是|要不要|是不是|对不对|好不好|right\?$"
)
_NUMERIC = re.compile(
    r"\bnumber\b|\bcode\b|\bpostcode\b|\baddress\b|\bbirth\b|\bcard\b|\bspell\b|\bphone\b|"
    r"\bdigits\b|\bhow much\b|\breading\b|号码|地址|电话|密码|生日|拼"
)


def wording(text: str, asked: str) -> dict[str, float]:
    """The signals in `text`, the turn so far as a recogniser writes it, after the assistant
    said `asked`; by name, each in [0, 1]."""
    text = text.strip()[-_TAIL:].replace("’", "'")
    last = _SENTENCE.split(text)[-1].lower()
    bare = last.rstrip(" .,!?。，！？…、:;：；-–—")
    words = _WORD.findall(last)
    found = dict.fromkeys(SIGNALS, 0.0)
    found |= _mark(text)
    found |= _asked(asked)
    count = len(_WORD.findall(text))
    found["empty"] = float(not words)
    found["short"] = float(0 < count <= 3)
    found["long"] = min(count, 24) / 24
    found["more"] = float(last != text.lower())
    if _HAN.search(last):
        found |= _chinese(bare)
    elif words and _is_english(words[-12:]):
        found |= _english(words, bare, asks=text.endswith("?"))
    found["answer"] = found["short"] * max(found["closed"], found["which"])
    if words and _is_numeral(words[-1], bare):
        digits = min(sum(char.isdigit() for char in text), _DIGITS)
        found["half_number"] = found["numeric"] * (1 - digits / _DIGITS)
        found["unit"] = float(words[-1] in _MORE)
    return found


SIGNALS = (
    "question unmarked trailing empty short long more hanging leaning wanting helpless opened "
    "listing unit half_number answer closed which invited numeric"
).split()
"""Their names: the last mark (a full stop where none is named); how long; the last words; the
sentence's shape; numerals; the question before."""


def _mark(text: str) -> dict[str, float]:
    end = text[-1:]
    trails = text.endswith(("...", "…", "-", "—", "–", ",", "，", "、", ";", "；", ":", "："))
    return {
        "question": float(end in ("?", "？")),
        "trailing": float(trails),
        "unmarked": float(end != "" and not trails and end not in ".!?。！？"),
    }


def _is_english(words: list[str]) -> bool:
    """Whether `words`, in lower case, look like English; a single one may be anything."""
    if not "".join(words).isascii() or not _FOREIGN.isdisjoint(words):
        return False
    known = sum(word in _COMMON or word in _NUMBERS for word in words)
    return len(words) <= 2 or known >= 0.35 * len(words)


def _english(words: list[str], bare: str, *, asks: bool) -> dict[str, float]:
    end = words[-1]
    # Who are you talking to? What is it for? A question may end in what it asks about.
    asks_openly = asks and words[0] in {"who", "what", "where", "which", "how"}
    # Yes, I can. No, it isn't.
    answers = words[0] in {"yes", "no", "yeah"} and words[-2:-1] and words[-2] in _PRONOUNS
    filler = end in _LISTS["filler"] and (len(words) > 1 or end not in {"well", "so", "like"})
    parts = [part.split() for part in bare.split(",")]
    items = parts[1:]
    return {
        "hanging": float(filler or (end in _LISTS["hanging"] and len(words) > 1 and not answers)),
        "leaning": float(
            end in _LISTS["leaning"] and len(words) > 1 and not (asks_openly or answers)
        ),
        "wanting": float(end in _LISTS["wanting"] and len(words) > 1),
        "opened": float(
            not asks and words[0] in _LISTS["opener"] and (len(items) < 1 or len(items[-1]) < 2)
        ),
        "listing": float(
            bool(items)
            and all(1 <= len(item) <= 3 for item in items)
            and _LISTS["verb"].union(_PRONOUNS, _ENDINGS).isdisjoint(bare.split(",", 1)[-1].split())
        ),
        "helpless": float(_lacks_verb(words)),
    }


def _lacks_verb(words: list[str]) -> bool:
    """Whether a helper verb waits for its subject or the verb it helps: "what time does the",
    "could you please"; or a giving one for what is given: "remind me"."""
    if len(words) > 1 and words[-2] in _GIVING and words[-1] in {"me", "us", "him", "her", "them"}:
        return True
    at = next((number for number, word in enumerate(words[:5]) if word in _HELPERS), None)
    if at is None or (at and words[at - 1] in _PRONOUNS):
        return False  # "I could", "we did": an answer may end there
    if at and words[0] not in _QUESTIONERS:
        return False  # "next Tuesday would be fine": its subject came before
    rest = [word for word in words[at + 1 :] if word != "please"]
    return 0 < len(rest) < (2 if rest[0] in _PRONOUNS else 3)


def _chinese(bare: str) -> dict[str, float]:
    if _COMPLETE.search(bare):
        return {}
    found = {name: float(bool(_CHINESE[name].search(bare))) for name in _CHINESE}
    parts = re.split("[，,、]", bare)
    opened = found.pop("opener") and (len(parts) < 2 or len(parts[-1]) < 4)
    listing = bool(re.search("、", bare)) and not re.search("[和跟]|还有", parts[-1])
    return found | {"opened": float(opened), "listing": float(listing)}


def _is_numeral(end: str, bare: str) -> bool:
    """Whether the last word is a numeral, or a letter that is spelled."""
    if _HAN.search(end):
        return bool(_CHINESE_NUMERAL.search(bare)) and end != "一"
    return end in _NUMBERS or (bool(_NUMERAL.search(end)) and end not in {"i", "a"})


def _asked(asked: str) -> dict[str, float]:
    last = _SENTENCE.split(asked.strip()[-_TAIL:].replace("’", "'"))[-1].lower()
    question = last.endswith(("?", "？"))
    invited = bool(_INVITATION.search(last)) and not (
        _CLOSED.search(last) and not _WISH.search(last)
    )
    closed = question and not invited and bool(_CLOSED.search(last))
    return {
        "invited": float(invited),
        "closed": float(closed),
        "which": float(question and not invited and not closed),
        "numeric": float(bool(_NUMERIC.search(last))),
    }
