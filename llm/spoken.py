"""What of a model's tokens is its reply, as text: not what it thinks first.

Two ways of thinking are known: `<think>...</think>` before the reply (Qwen3, DeepSeek), and
gpt-oss's channels (https://github.com/openai/harmony), of which only `final` is meant for people:

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
    <|channel|>commentary to=functions.add <|constrain|>json<|message|>{"x": 2}<|call|>
"""

from __future__ import annotations

import re
from typing import Any, Literal

from tokenizers.decoders import DecodeStream

_HEADS = ("<|start|>", "<|channel|>", "<|end|>")
_RECIPIENT = re.compile(r"to=functions\.([\w-]+)")


class Spoken:
    """Takes the tokens of one reply, one after the other."""

    def __init__(self, tokenizer: Any, prompt: str) -> None:
        """`tokenizer`: of the package tokenizers. `prompt`: the text that the reply follows."""
        self._tokenizer = tokenizer
        number = tokenizer.token_to_id
        channels = number("<|channel|>") is not None and number("<|message|>") is not None
        self._heads = {number(head) for head in _HEADS} if channels else set()
        self._message = number("<|message|>") if channels else None
        self._think, self._thought = number("<think>"), number("</think>")
        thinking = prompt.rstrip().endswith("<think>")
        self._part: Literal["text", "thought", "head"] = "thought" if thinking else "text"
        self._head = ""
        self._closing = ""
        self._stream: Any = DecodeStream(skip_special_tokens=True)

    def feed(self, token: int) -> str:
        """The text that is complete with `token`; a character may take several."""
        if token in self._heads:
            self._begin()
            self._part = "head"
        elif token == self._message:
            return self._open()
        elif token == self._think:
            self._part = "thought"
        elif token == self._thought:
            self._begin()
            self._part = "text"
        else:
            text = self._text(token)
            if self._part == "text":
                return text
            self._head += text
        return ""

    def finish(self) -> str:
        """What is still to be said when the reply is over."""
        return self._closing

    def _text(self, token: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception:  # noqa: BLE001  # the only type that tokenizers raises
            # Stray bytes turned characters that were passed on already into broken ones.
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""

    def _begin(self) -> None:
        self._head = ""
        self._stream = DecodeStream(skip_special_tokens=True)

    def _open(self) -> str:
        """The head of a channel is read: whether its text is for people, or calls a function."""
        called = _RECIPIENT.search(self._head)
        final = self._head.strip().startswith("final")
        self._begin()
        self._part = "text" if called or final else "thought"
        if not called:
            return ""
        # As tooltext.py reads it.
        self._closing = "}</tool_call>"
        return f'\n<tool_call>\n{{"name": "{called[1]}", "arguments": '
