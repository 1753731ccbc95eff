"""What llama.cpp says of the next token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xllamacpp

from llm.gguf import load, params

_CONTEXT = 256


def likeliest(
    path: Path, prompts: Sequence[list[int]], count: int, *, exact: bool = False
) -> list[dict[int, float]]:
    """Log-probabilities of the `count` likeliest tokens after each prompt (ids of less than 256
    tokens), by their ids. `exact`: keys and values are kept in 32 bits, not in the engine's 16."""
    settings = params(path, 1, _CONTEXT, 1, "key")
    if exact:
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server, made = load(path, settings), []
    for prompt in prompts:
        got: list[Any] = []
        request = {"prompt": prompt, "n_predict": 1, "n_probs": count, "temperature": 0}
        server.handle_completions(request | {"stream": False}, got.append)
        answer = got[-1] if isinstance(got[-1], dict) else json.loads(got[-1])
        [token] = answer["choices"][0]["logprobs"]["content"]
        made.append({top["id"]: top["logprob"] for top in token["top_logprobs"]})
    return made
