"""Conversations as tokens: written out, and answered by a model many at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llm.moe.distil import Head
from llm.moe.lessons import Taught
from llm.moe.prompts import Conversation
from llm.moe.reading import END, Speaker, read
from tests import tiny

LONGEST = 12


class Letters:
    """A tokenizer in which each character is a token, and so is the end."""

    def encode(self, text: str, **_: Any) -> list[int]:
        parts = text.split(END)
        tokens = [ord(letter) + 2 for letter in parts[0]]
        for part in parts[1:]:
            tokens += [tiny.STOP, *(ord(letter) + 2 for letter in part)]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        return "".join(END if token == tiny.STOP else chr(max(token - 2, 0)) for token in tokens)

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        said = (f"<|im_start|>{one['role']}\n{one['content']}{END}\n" for one in messages)
        return "".join(said) + "<|im_start|>assistant\n"


@pytest.fixture
def model() -> Any:
    torch.manual_seed(4)
    return AutoModelForCausalLM.from_config(tiny.config("qwen2")).eval()


def test_what_is_written_out_is_marked_where_the_assistant_speaks() -> None:
    tokenizer = Letters()
    made = read(tokenizer, Taught("Be kind.", (("Hi", "Hello."), ("Why?", "So."))))
    text = tokenizer.decode(made.tokens.tolist())
    assert text.startswith("<|im_start|>system\nBe kind.")
    # A weight is that of the next token's prediction.
    replies = made.tokens[1:][made.weights[:-1] == 1]
    assert tokenizer.decode(replies.tolist()) == f"Hello.{END}So.{END}"
    unweighed = made.tokens[1:][made.weights[:-1] == 0]
    assert "Be kind." in tokenizer.decode(unweighed.tolist())
    assert "Hi" not in tokenizer.decode(unweighed.tolist())


def test_callers_side_by_side_are_answered_as_each_alone(model: Any) -> None:
    asked = [
        Conversation("Be brief.", ("Hi", "Why do they sing so loudly?")),
        Conversation("You are a helpful assistant.", ("Tell me something about bees.",)),
        Conversation("Be brief.", ("No", "Yes", "No")),
    ]
    speaker = Speaker(model, Letters(), Head(model), longest=LONGEST, temperature=1e-6)
    together = list(speaker.answer(asked, at_once=3))
    alone = list(speaker.answer(asked, at_once=1))
    assert [one.tokens.tolist() for one in together] == [one.tokens.tolist() for one in alone]
    assert [one.weights.tolist() for one in together] == [one.weights.tolist() for one in alone]
    for one, conversation in zip(together, asked, strict=True):
        likeliest = model(one.tokens[None]).logits[0].argmax(-1)
        spoken = one.weights[:-1] == 1
        assert torch.equal(one.tokens[1:][spoken], likeliest[:-1][spoken])
        assert int(spoken.sum()) <= LONGEST * len(conversation.turns)
        for turn in conversation.turns:
            assert turn in Letters().decode(one.tokens.tolist())
