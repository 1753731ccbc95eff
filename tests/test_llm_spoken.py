"""Of a model's tokens, those that are its reply."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llm.spoken import Spoken
from llm.tooltext import ToolTextParser

THINK = ("<think>", "</think>")
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>")
ANALYSIS = "<|channel|>analysis<|message|>is it?<|end|>"


def tokenizer(*marks: str) -> Tokenizer:
    """One token a byte, and one for each of the marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens([AddedToken(mark, special=mark in HARMONY) for mark in marks])
    return made


def pieces(written: str, marks: tuple[str, ...], prompt: str = "") -> list[str]:
    read = tokenizer(*marks)
    spoken = Spoken(read, prompt)
    said = [spoken.feed(token) for token in read.encode(written).ids]
    return [*filter(None, said), spoken.finish()]


@pytest.mark.parametrize(
    ("written", "marks", "prompt", "said"),
    [
        ("Hi 雨!", (), "", "Hi 雨!"),
        ("<think>is it?</think>It is.", THINK, "", "It is."),
        ("is it?</think>It is.", THINK, "<|assistant|>\n<think>\n", "It is."),
        ("It is <think>.", (), "", "It is <think>."),
        (
            f"{ANALYSIS}<|start|>assistant<|channel|>final<|message|>It is 雨.",
            HARMONY,
            "",
            "It is 雨.",
        ),
    ],
)
def test_thoughts_are_not_said(
    written: str, marks: tuple[str, ...], prompt: str, said: str
) -> None:
    assert "".join(pieces(written, marks, prompt)) == said


def test_a_character_of_several_tokens_comes_whole() -> None:
    assert pieces("a雨b", ()) == ["a", "雨", "b", ""]


def test_a_call_in_a_channel_is_one_that_the_parser_reads() -> None:
    written = (
        f"{ANALYSIS}<|start|>assistant"
        '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"x": 2}'
    )
    parser = ToolTextParser(frozenset({"add"}))
    text = "".join(parser.feed(piece) for piece in pieces(written, HARMONY))
    rest, calls = parser.finish()
    assert (text + rest).strip() == ""
    assert [(call.name, call.arguments) for call in calls] == [("add", '{"x": 2}')]


def test_stray_bytes_do_not_end_a_reply() -> None:
    """Of a tokenizer that falls back to bytes, as Mixtral's does."""
    words = {"▁fox": 256, "▁dog": 257}
    read = Tokenizer(
        models.BPE({**{f"<0x{n:02X}>": n for n in range(256)}, **words}, [], byte_fallback=True)
    )
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    read.decoder = decoders.Sequence(parts)
    spoken = Spoken(read, "")
    said = [spoken.feed(token) for token in (256, 0xC3, 0xA9, 0x80, 0x80, 0x80, 257, 256)]
    assert "".join(said).startswith(" fox\u00e9")
    assert said[-1] == " fox"
