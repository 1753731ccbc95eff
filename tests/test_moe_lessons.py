import json
import random
import re
import tomllib
from collections.abc import Collection
from itertools import islice
from pathlib import Path

import pytest

from llm.moe import lessons, sums, toolbox
from llm.moe.guard import Guard
from llm.moe.lessons import teach

_BOOK = tomllib.loads(Path(lessons.__file__).with_name("lessons.toml").read_text(encoding="utf-8"))
_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


def _pairs(count: int, seed: int, without: Collection[str] = ()) -> list[lessons.Pair]:
    return [pair for taught in teach(count, seed, without) for pair in taught.turns]


def test_the_same_seed_teaches_the_same() -> None:
    assert list(teach(50, 3)) == list(teach(50, 3))
    assert list(teach(50, 3)) != list(teach(50, 4))


def test_many_different_turns_and_none_is_empty() -> None:
    pairs = _pairs(1500, 1)
    assert len(set(islice((asked for asked, _ in pairs), 5000))) > 3000
    for asked, replied in pairs:
        assert asked.strip()
        assert replied.strip()
        assert not re.search(r"\{\w*\}", asked.replace('{"', ""))


def test_conversations_are_of_two_to_a_few_turns() -> None:
    assert {len(taught.turns) for taught in teach(400, 2)} <= set(range(2, 9))


_BINARY = (
    (r"(\d+) plus (\d+)\?$", lambda a, b: a + b),
    (r"(\d+) minus (\d+)\?$", lambda a, b: a - b),
    (r"(\d+) times (\d+)\?$", lambda a, b: a * b),
    (r"(\d+) divided by (\d+)\?$", lambda a, b: a // b),
    (r"(\d+) percent of (\d+)\?$", lambda a, b: a * b // 100),
    (r"(\d+)加(\d+)等于多少？$", lambda a, b: a + b),
    (r"(\d+)减(\d+)等于多少？$", lambda a, b: a - b),
    (r"(\d+)乘(\d+)等于多少？$", lambda a, b: a * b),
)


def test_sums_are_right() -> None:
    rng, seen = random.Random(5), set()
    for chinese in (False, True):
        for _ in range(6000):
            asked, replied, *_ = sums.pose(rng, _BOOK["sums"], chinese=chinese)
            for pattern, compute in _BINARY:
                if found := re.search(r"(?:What's |^)" + pattern, asked):
                    right = compute(int(found[1]), int(found[2]))
                    assert int(re.findall(r"\d+", replied)[-1]) == right, (asked, replied)
                    seen.add(pattern)
    assert len(seen) == len(_BINARY)


def test_every_step_of_a_working_is_right() -> None:
    rng, checked = random.Random(6), 0
    step = re.compile(r"(\d+) (plus|minus|times|divided by) (\d+) is (\d+)")
    does = {"plus": "__add__", "minus": "__sub__", "times": "__mul__", "divided by": "__floordiv__"}
    for _ in range(6000):
        for a, word, b, made in step.findall(sums.pose(rng, _BOOK["sums"], chinese=False)[1]):
            assert getattr(int(a), does[word])(int(b)) == int(made)
            checked += 1
    assert checked > 500


def test_each_kind_of_sum_has_its_answer() -> None:
    rng = random.Random(7)
    for kind, draw in sums.DRAWS.items():
        for _ in range(200):
            n = draw(rng)
            if kind in {"bought", "left"}:
                c = n["c"] if kind == "bought" else -n["c"]
                assert n["a"] * n["b"] + c == n["answer"]
            elif kind == "each":
                assert (n["a"] + n["b"]) == n["c"] * n["answer"]
            elif kind in {"change", "born"}:
                whole = n["a"] - n["b"] if kind == "change" else n["year_then"] - n["year"]
                assert whole == n["answer"]
            elif kind == "weekday":
                assert n["day_then"] == (n["day"] + n["a"]) % 7


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [
        (0, "zero", "零"),
        (12, "twelve", "十二"),
        (20, "twenty", "二十"),
        (105, "one hundred five", "一百零五"),
        (110, "one hundred ten", "一百一十"),
        (1989, "one thousand nine hundred eighty-nine", "一千九百八十九"),
        (3007, "three thousand seven", "三千零七"),
    ],
)
def test_numbers_are_said(number: int, english: str, chinese: str) -> None:
    assert sums.say(number) == english
    assert sums.say_chinese(number) == chinese


def test_times_of_day_are_said() -> None:
    assert sums.clock(15 * 60 + 15) == "quarter past three"
    assert sums.clock(12 * 60 + 40) == "twenty to one"
    assert sums.clock_chinese(2 * 60 + 5) == "两点零五分"
    assert sums.clock_chinese(12 * 60 + 30) == "十二点半"


def test_calls_fit_the_tools_on_offer() -> None:
    calls = set()
    for taught in teach(1500, 8):
        offered = {tool["function"]["name"]: tool["function"] for tool in taught.tools}
        for _, replied in taught.turns:
            if not replied.startswith("<tool_call>"):
                continue
            written = json.loads(replied.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            schema = offered[written["name"]]["parameters"]
            assert set(written["arguments"]) == set(schema["required"])
            for name, value in written["arguments"].items():
                asks = schema["properties"][name]
                assert isinstance(value, _TYPES[asks["type"]])
                assert asks["type"] == "boolean" or not isinstance(value, bool)
                assert value in asks.get("enum", [value])
            calls.add(written["name"])
    assert len(calls) >= 30


def test_every_tool_can_be_called_and_spoken_of() -> None:
    rng = random.Random(9)
    for tool in _BOOK["tools"]:
        for language in ("english", "chinese"):
            if language in tool:
                for _ in range(30):
                    assert toolbox._called(rng, tool, language)


def test_every_row_fills_its_frames() -> None:
    for tables in lessons._TABLES.values():
        for table in tables:
            for row in table.rows:
                for frame in table.frames:
                    assert len(frame) > 1
                    assert all(part.format(*row) for part in (*frame, table.check or "-"))


_BARRED = (
    "So, tell me the capital of France!",
    "How much is 17 plus 26?",
    "请问法国的首都是哪里呀？",
)


@pytest.mark.parametrize(
    ("asked", "replied", "lets"),
    [
        ("What's the capital of France?", "Paris.", False),
        ("Paris is the capital of which country?", "France.", False),
        ("What's the capital of Spain?", "Madrid.", True),
        ("What's seventeen plus twenty-six?", "Forty-three.", False),
        ("What's 17 plus 27?", "44.", True),
        ("And the capital, France?", "Paris.", False),
        ("法国的首都是哪里？", "巴黎。", False),
        ("意大利的首都是哪里？", "罗马。", True),
        ("Why?", "Because.", True),
    ],
)
def test_what_is_judged_is_not_taught(asked: str, replied: str, lets: bool) -> None:
    assert Guard(_BARRED).lets([(asked, replied)]) is lets


def test_a_turn_that_says_a_part_of_what_is_judged_is_not_taught() -> None:
    guard = Guard(["My cat Minka is ill and the vet is closed"])
    assert not guard.lets([("My cat is ill.", "Oh no.")])
    assert guard.lets([("My cat is hungry.", "Oh no.")])


def test_barred_texts_are_kept_out_of_what_is_drawn() -> None:
    barred = [asked for asked, _ in _pairs(12, 11) if not asked.startswith("<")]
    guard = Guard(barred)
    assert all(guard.lets([pair]) for pair in _pairs(200, 11, barred))
    assert not set(barred) & {asked for asked, _ in _pairs(200, 11, barred)}


def test_talks_alternate_between_caller_and_assistant_and_can_be_spoken() -> None:
    talks = list(lessons.written(1))
    assert len(talks) > 300
    for taught in talks:
        assert 1 <= len(taught.turns) <= 4
        for line in (line for pair in taught.turns for line in pair):
            assert line == line.strip()
            assert 0 < len(line) <= 900  # a story; others are a few sentences
            assert not re.search(r"[*#_`<>|{}\[\]]|https?:", line), line


def test_a_talk_that_says_what_is_judged_is_left_out() -> None:
    said = next(lessons.written(1)).turns[0][0]
    assert all(said != asked for taught in lessons.written(1, [said]) for asked, _ in taught.turns)


def test_what_must_not_be_said_is_the_beginning_of_a_refusal() -> None:
    talks = list(lessons.written(1))
    refused = list(lessons.unsaid(talks))
    asked = {taught.turns[0] for taught in talks}
    assert len(refused) > 100
    for taught in refused:
        [(said, reply)] = taught.turns
        assert taught.unsaid
        assert reply == "I'm sorry"
        # What is given instead has to be learnable: it does not begin like it.
        assert any(other == said and not given.startswith("I") for other, given in asked)
