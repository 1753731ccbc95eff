"""Sums as callers say them, in English and Chinese, with the answer known by construction. The
words are lessons.toml's; here are the numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Drawn = dict[str, int]
"""Numbers by the name that a frame has for them. How one is said goes by the name: "day..." is a
weekday's number, "month..." a month's, "time..." minutes after midnight, "year..." a year."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_DIGITS = "零一二三四五六七八九"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = (
    "January February March April May June July August September October November December"
).split()


def say(number: int) -> str:
    """In English words; below a million."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, size)
    return f"{say(many)} {name}" + (f" {say(rest)}" if rest else "")


def say_chinese(number: int) -> str:
    """In Chinese characters; below a hundred million."""
    if number < 10:
        return _DIGITS[number]
    if number < 20:
        return "十" + (_DIGITS[number - 10] if number > 10 else "")
    size, name = next(
        pair
        for pair in ((10_000, "万"), (1000, "千"), (100, "百"), (10, "十"))
        if number >= pair[0]
    )
    many, rest = divmod(number, size)
    gap = "零" if size > 10 and 0 < rest < size // 10 else ""
    tail = ("一" if 10 <= rest < 20 else "") + say_chinese(rest) if rest else ""
    return f"{say_chinese(many)}{name}{gap}{tail}"


def clock(minutes: int) -> str:
    hour, minute = divmod(minutes % 720, 60)
    this, following = say(hour or 12), say(hour % 12 + 1)
    named = {0: f"{this} o'clock", 15: f"quarter past {this}", 30: f"half past {this}"}
    named[45] = f"quarter to {following}"
    past = f"{say(minute)} past {this}" if minute < 30 else f"{say(60 - minute)} to {following}"
    return named.get(minute, past)


def clock_chinese(minutes: int) -> str:
    hour, minute = divmod(minutes % 720, 60)
    tail = {0: "整", 30: "半"}.get(minute, f"{'零' if minute < 10 else ''}{say_chinese(minute)}分")
    return ("两" if hour == 2 else say_chinese(hour or 12)) + f"点{tail}"


def render(frame: str, drawn: Drawn, *, chinese: bool, words: bool) -> str:
    """The frame with its numbers said, in words or digits."""
    said = {name: _said(name, value, chinese, words) for name, value in drawn.items()}
    return counted(frame.format(**said)) if chinese else frame.format(**said)


def counted(text: str) -> str:
    """Two of something is 两 in Chinese."""
    return re.sub(
        "(?<![十百千万零期第点])二(?=[点个块张本天年公小分岁盒袋米打人件辆元])", "两", text
    )


def _said(name: str, value: int, chinese: bool, words: bool) -> str:
    if name.startswith("day"):
        return f"星期{'一二三四五六日'[value % 7]}" if chinese else _DAYS[value % 7]
    if name.startswith("month"):
        return f"{say_chinese(value % 12 + 1)}月" if chinese else _MONTHS[value % 12]
    if name.startswith("time"):
        return clock_chinese(value) if chinese else clock(value)
    if name.startswith("year") or not words:
        return str(value)
    return say_chinese(value) if chinese else say(value)


def pose(
    rng: random.Random, book: Mapping[str, Any], *, chinese: bool
) -> tuple[str, str, str, Drawn]:
    """A sum of `book`: what is asked, what is replied, its kind and the numbers."""
    language = "chinese" if chinese else "english"
    kind = rng.choice([kind for kind in DRAWS if book[kind].get(language)])
    entry, drawn, words = book[kind], DRAWS[kind](rng), rng.random() < 0.55
    short: Sequence[str] = book[f"{language}_short"]
    replies: Sequence[str] = entry.get(f"{language}_work", short)
    if 0 in drawn.values() and kind in _SPLIT:
        replies = short
    # A small model reckons in digits, whatever it was asked in; the voice says them as well.
    asked, replied = (
        capital(render(rng.choice(frames), drawn, chinese=chinese, words=said))
        for frames, said in ((entry[language], words), (replies, False))
    )
    return asked, replied, kind, drawn


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _add(rng: random.Random, least: int = 11, most: int = 99) -> Drawn:
    a, b = rng.randint(least, most), rng.randint(least, most)
    one = b % 10 or b % 100
    return {"a": a, "b": b, "ten": b - one, "one": one, "mid": a + b - one, "answer": a + b}


def _subtract(rng: random.Random, least: int = 11, most: int = 99) -> Drawn:
    b, answer = rng.randint(least, most), rng.randint(2, most)
    a, one = b + answer, b % 10 or b % 100
    return {"a": a, "b": b, "ten": b - one, "one": one, "mid": a - b + one, "answer": answer}


def _table(rng: random.Random) -> Drawn:
    a, b = rng.randint(2, 12), rng.randint(2, 10)
    return {"a": a, "b": b, "answer": a * b}


def _times(rng: random.Random) -> Drawn:
    a, b = rng.randint(12, 99), rng.randint(2, 9)
    one, ten = a % 10, a - a % 10
    parts = {"ten": ten, "one": one, "left": ten * b, "right": one * b}
    return {"a": a, "b": b, **parts, "answer": a * b}


def _divide(rng: random.Random) -> Drawn:
    b, answer = rng.randint(2, 12), rng.randint(2, 15)
    return {"a": b * answer, "b": b, "answer": answer}


def _percent(rng: random.Random) -> Drawn:
    tens, tenth = rng.randint(2, 9), rng.randint(2, 60)
    return {"rate": 10 * tens, "a": 10 * tenth, "tens": tens, "one": tenth, "answer": tens * tenth}


def _part(rng: random.Random, parts: int) -> Drawn:
    answer = rng.randint(2, 60)
    return {"a": parts * answer, "double": 2 * answer, "answer": answer}


def _fold(rng: random.Random, times: int) -> Drawn:
    a = rng.randint(6, 99)
    one = a % 10
    split = {"ten": a - one, "one": one, "left": times * (a - one), "right": times * one}
    return {"a": a, **split, "answer": times * a}


def _change(rng: random.Random) -> Drawn:
    note = rng.choice((10, 20, 50, 100))
    price = rng.randint(2, note - 1)
    up = -price % 10
    drawn = {"a": note, "b": price, "up": up, "next": price + up, "rest": note - price - up}
    return {**drawn, "answer": note - price}


def _bought(rng: random.Random) -> Drawn:
    count, each, more = rng.randint(2, 9), rng.randint(2, 12), rng.randint(2, 20)
    total = count * each
    return {"a": count, "b": each, "c": more, "mid": total, "answer": total + more}


def _left(rng: random.Random) -> Drawn:
    count, each = rng.randint(2, 9), rng.randint(3, 12)
    gone = rng.randint(2, count * each - 1)
    mid = count * each
    return {"a": count, "b": each, "c": gone, "mid": mid, "answer": mid - gone}


def _later(rng: random.Random) -> Drawn:
    start, by = 5 * rng.randint(12, 130), 5 * rng.randint(1, 23)
    return {"time": start, "a": by, "time_after": start + by}


def _earlier(rng: random.Random) -> Drawn:
    start, by = 5 * rng.randint(36, 140), 5 * rng.randint(1, 23)
    return {"time": start, "a": by, "time_after": start - by}


def _between(rng: random.Random) -> Drawn:
    hour, hours = rng.randint(1, 11), rng.randint(1, 9)
    return {"time": 60 * hour, "time_after": 60 * (hour + hours), "answer": hours}


def _weekday(rng: random.Random, sign: int = 1) -> Drawn:
    day, by = rng.randrange(7), rng.randint(2, 6)
    return {"day": day, "a": by, "day_then": (day + sign * by) % 7}


def _month(rng: random.Random) -> Drawn:
    month, by = rng.randrange(12), rng.randint(2, 6)
    return {"month": month, "a": by, "month_then": (month + by) % 12}


def _born(rng: random.Random) -> Drawn:
    born, age = rng.randint(1930, 1999), rng.randint(3, 80)
    to = -born % 10
    then = {"year": born, "year_then": born + age, "year_ten": born + to}
    return {**then, "one": to, "rest": age - to, "answer": age} if age > to else _born(rng)


def _larger(rng: random.Random) -> Drawn:
    a, b = rng.sample(range(10, 999), 2)
    return {"a": a, "b": b, "small": min(a, b), "answer": max(a, b)}


def _average(rng: random.Random) -> Drawn:
    middle, off = rng.randint(10, 60), rng.randint(1, 9)
    return {"a": middle - off, "b": middle + off, "mid": 2 * middle, "answer": middle}


def _convert(rng: random.Random, by: int) -> Drawn:
    a = rng.randint(2, 12)
    return {"a": a, "answer": a * by}


def _sequence(rng: random.Random) -> Drawn:
    a, step = rng.randint(1, 30), rng.randint(2, 12)
    terms = {name: a + place * step for place, name in enumerate("abc")}
    return {**terms, "d": a + 3 * step, "step": step, "answer": a + 4 * step}


def _ages(rng: random.Random) -> Drawn:
    a, more, later = rng.randint(5, 60), rng.randint(2, 30), rng.randint(2, 20)
    return {"a": a, "b": more, "c": later, "mid": a + more, "answer": a + more + later}


def _each(rng: random.Random) -> Drawn:
    people, answer = rng.randint(2, 9), rng.randint(2, 12)
    first = rng.randint(1, people * answer - 1)
    mid = people * answer
    return {"a": first, "b": mid - first, "c": people, "mid": mid, "answer": answer}


_SPLIT = {
    "add", "subtract", "add_hundreds", "subtract_hundreds", "times", "double", "triple", "change",
    "born",
}  # fmt: skip
"""Worked in parts, unless one of them is nothing."""
DRAWS: dict[str, Callable[[random.Random], Drawn]] = {
    "ease": lambda rng: _add(rng, 1, 9),
    "add": _add,
    "add_hundreds": lambda rng: _add(rng, 101, 899),
    "take": lambda rng: _subtract(rng, 1, 9),
    "subtract": _subtract,
    "subtract_hundreds": lambda rng: _subtract(rng, 101, 499),
    "table": _table,
    "times": _times,
    "divide": _divide,
    "percent": _percent,
    "half": lambda rng: _part(rng, 2),
    "third": lambda rng: _part(rng, 3),
    "quarter": lambda rng: _part(rng, 4),
    "twentieth": lambda rng: _part(rng, 20),
    "double": lambda rng: _fold(rng, 2),
    "triple": lambda rng: _fold(rng, 3),
    "change": _change,
    "bought": _bought,
    "left": _left,
    "later": _later,
    "earlier": _earlier,
    "between": _between,
    "weekday": _weekday,
    "weekday_before": lambda rng: _weekday(rng, -1),
    "month": _month,
    "born": _born,
    "larger": _larger,
    "average": _average,
    "minutes": lambda rng: _convert(rng, 60),
    "days": lambda rng: _convert(rng, 7),
    "dozens": lambda rng: _convert(rng, 12),
    "metres": lambda rng: _convert(rng, 1000),
    "centimetres": lambda rng: _convert(rng, 100),
    "day_hours": lambda rng: _convert(rng, 24),
    "sequence": _sequence,
    "ages": _ages,
    "each": _each,
}
