"""Conversations as a Qwen2 model's tokens: written out with their answers, or spoken by a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from llm.moe.distil import Head, Lesson, lesson
from llm.moe.lessons import Taught
from llm.moe.prompts import Conversation

END = "<|im_end|>"
_CALLER, _ASSISTANT = "<|im_start|>user\n", "<|im_start|>assistant\n"
_RESULT = f"\n{_CALLER}<tool_response>\n{{}}\n</tool_response>{END}\n{_ASSISTANT}Done.{END}"
_LIKELIEST = 40
"""Tokens among which one is drawn."""
_PADDING = 0


def read(tokenizer: Any, taught: Taught) -> Lesson:
    """The conversation in the model's own form, with what the assistant says marked."""
    messages: list[dict[str, str]] = [{"role": "system", "content": taught.instructions}]
    text, tokens, spoken, instructions = "", list[int](), list[bool](), 0
    for said, reply in taught.turns:
        messages.append({"role": "user", "content": said})
        whole = tokenizer.apply_chat_template(
            messages, tools=list(taught.tools) or None, tokenize=False, add_generation_prompt=True
        )
        before = tokenizer.encode(whole[len(text) :], add_special_tokens=False)
        if not tokens:
            instructions = len(tokenizer.encode(whole[: whole.rindex(_CALLER)]))
        end = "" if taught.unsaid else END
        after = tokenizer.encode(reply + end, add_special_tokens=False)
        tokens += [*before, *after]
        spoken += [*[False] * len(before), *[True] * len(after)]
        text = f"{whole}{reply}{END}"
        messages.append({"role": "assistant", "content": reply})
    made = lesson(tokens, spoken, instructions)
    return replace(made, weights=-made.weights) if taught.unsaid else made


@dataclass(slots=True)
class _Call:
    """A conversation as it goes on."""

    asked: Conversation
    tokens: list[int] = field(default_factory=list)
    spoken: list[bool] = field(default_factory=list)
    instructions: int = 0
    """Tokens before the caller's first."""

    def add(self, tokens: Sequence[int], *, spoken: bool = False) -> None:
        self.tokens += tokens
        self.spoken += [spoken] * len(tokens)


class Speaker:
    """Lets a model answer many callers at a time, and keeps the conversations as lessons."""

    def __init__(
        self, model: Any, tokenizer: Any, head: Head, *, longest: int, temperature: float
    ) -> None:
        """`longest`: tokens of a reply at most."""
        self._model, self._tokenizer, self._head = model, tokenizer, head
        self._longest, self._temperature = longest, temperature
        [self._end] = self._encode(END)

    def answer(self, asked: Iterable[Conversation], at_once: int) -> Iterator[Lesson]:
        """Conversations with the model's own replies, made `at_once` side by side."""
        waiting = iter(asked)
        while some := list(islice(waiting, at_once)):
            calls = [_Call(one) for one in some]
            for turn in range(max(len(one.turns) for one in some)):
                open_calls = [call for call in calls if turn < len(call.asked.turns)]
                for call in open_calls:
                    self._ask(call, turn)
                self._reply(open_calls)
            for call in calls:
                yield lesson(call.tokens, call.spoken, call.instructions)

    def _ask(self, call: _Call, turn: int) -> None:
        said = call.asked.turns[turn]
        if turn:
            call.add(self._encode(f"\n{_CALLER}{said}{END}\n{_ASSISTANT}"))
            return
        messages = [
            {"role": "system", "content": call.asked.instructions},
            {"role": "user", "content": said},
        ]
        opening: str = self._tokenizer.apply_chat_template(
            messages,
            tools=list(call.asked.tools) or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        before, caller, after = opening.rpartition(_CALLER)
        call.add(self._encode(before))
        call.instructions = len(call.tokens)
        call.add(self._encode(caller + after))

    def _reply(self, calls: list[_Call]) -> None:
        replies = self._speak([call.tokens for call in calls])
        for call, reply in zip(calls, replies, strict=True):
            whole = reply[-1] == self._end
            call.add(reply, spoken=True)
            if not whole:
                call.add([self._end])
            if "<tool_call>" in self._tokenizer.decode(reply):
                call.add(self._encode(_RESULT))

    @torch.no_grad()
    def _speak(self, prompts: list[list[int]]) -> list[list[int]]:
        """Drawn replies, each up to its end."""
        device, width = self._model.device, max(map(len, prompts))
        padded = [[_PADDING] * (width - len(prompt)) + prompt for prompt in prompts]
        given = torch.tensor(padded, device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
        places, cache = (mask.cumsum(1) - 1).clamp(min=0), DynamicCache()
        ended, said = torch.zeros_like(lengths, dtype=torch.bool), list[Tensor]()
        for _ in range(self._longest):
            hidden = self._model.model(
                given,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            given = self._draw(hidden)
            said.append(given[:, 0].masked_fill(ended, self._end))
            ended |= given[:, 0] == self._end
            if ended.all():
                break
            mask = torch.cat([mask, torch.ones_like(given)], dim=1)
            places = places[:, -1:] + 1
        rows = torch.stack(said, dim=1).tolist()
        return [row[: row.index(self._end) + 1] if self._end in row else row for row in rows]

    def _draw(self, hidden: Tensor) -> Tensor:
        """[callers, hidden] -> the next token of each, [callers, 1]."""
        best, at = self._head(hidden).topk(_LIKELIEST, dim=1)
        drawn = torch.multinomial(torch.softmax(best / self._temperature, 1), 1)
        return self._head.spoken[at.gather(1, drawn)]

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens
