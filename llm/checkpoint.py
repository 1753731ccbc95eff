"""A directory with a Hugging Face causal language model: weights, tokenizer, chat template."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from llm.interfaces import LanguageModelError, Prompt
from llm.spoken import Spoken
from llm.wire import Json, encode_prompt

_NEEDED = ("input_ids", "position_ids", "attention_mask", "past_key_values", "logits_to_keep")
_TEMPLATE = {"enable_thinking": False, "reasoning_effort": "low"}
"""For the templates that ask: someone waits for the first word."""
_TOP_K, _TOP_P = 40, 0.95
"""Where the model's generation config does not say; llama.cpp's own."""


class Checkpoint:
    """Loaded on the accelerator where there is one, in the number format it was saved in."""

    def __init__(self, path: Path) -> None:
        """Blocking. Raises LanguageModelError."""
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.device = _device()
        # Without the second one a repository with code of its own has a question asked on stdin.
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, **local)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto", **local)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise LanguageModelError(
                f"{path}: expected the directory of a Hugging Face causal model, got: {reason}"
            ) from error
        self.model: Any = model.to(self.device).eval()
        self._check(path)
        generation = self.model.generation_config
        self.top_k: int = generation.top_k or _TOP_K
        self.top_p: float = generation.top_p or _TOP_P
        self.stops = _stops(generation.eos_token_id, self._tokenizer.eos_token_id)
        self.context: int = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", 1 << 30
        )

    def _check(self, path: Path) -> None:
        takes = inspect.signature(self.model.forward).parameters
        if missing := [name for name in _NEEDED if name not in takes]:
            raise LanguageModelError(
                f"{path}: expected a model that takes {', '.join(_NEEDED)}; "
                f"{type(self.model).__name__} does not take {', '.join(missing)}"
            )
        if not self._tokenizer.is_fast:
            raise LanguageModelError(f"{path}: expected a tokenizer.json, got none")
        if not self._tokenizer.chat_template:
            raise LanguageModelError(f"{path}: expected a model with a chat template, got none")

    def render(self, prompt: Prompt, *, answered: bool = True) -> str:
        """The prompt as the model's own template writes it; `answered`: up to where the reply
        begins. Raises LanguageModelError."""
        request = encode_prompt(prompt)
        messages = [_as_templates_read(message) for message in request["messages"]]
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=request.get("tools"),
                tokenize=False,
                add_generation_prompt=answered,
                **_TEMPLATE,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise LanguageModelError(f"the chat template failed: {error}") from error
        return str(text)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def spoken(self, prompt: str) -> Spoken:
        """For the reply to a rendered prompt."""
        return Spoken(self._tokenizer.backend_tokenizer, prompt)


def chooser(temperature: float, top_k: int, top_p: float) -> Any:
    """Samples a token from logits, [vocabulary]: of the `top_k` likeliest, those that together
    have the probability `top_p`. Holtzman et al., https://arxiv.org/abs/1904.09751."""
    if temperature < 1e-3:
        return lambda logits: int(logits.argmax())

    def choose(logits: torch.Tensor) -> int:
        best, tokens = logits.float().topk(min(top_k, logits.shape[-1]))
        chances = torch.softmax(best / temperature, -1)
        chances[chances.cumsum(-1) - chances > top_p] = 0
        return int(tokens[torch.multinomial(chances, 1)])

    return choose


def _device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def _stops(*tokens: int | list[int] | None) -> frozenset[int]:
    lists = (token if isinstance(token, list) else [token] for token in tokens)
    return frozenset(token for listed in lists for token in listed if token is not None)


def _as_templates_read(message: Json) -> Json:
    """Templates write a call's arguments as JSON themselves."""
    calls = []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"])
        except ValueError:
            arguments = function["arguments"]
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**message, "tool_calls": calls} if calls else message
