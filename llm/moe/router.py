"""Which experts a token is for: a linear guess at what each of them would add.

Ridge regression from the block's input to the length of each expert's output; the oracle, which
sees those lengths, says how good the guess is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm.moe.partition import Cut

_RIDGE = 1e-2
"""Of the inputs' mean square."""


def lengths(inner: Tensor, down: Tensor, made: Cut) -> Tensor:
    """How long each routed expert's output is, [tokens, experts], from the activations,
    [tokens, neurons], and down, [hidden, neurons]."""
    outputs = [inner[:, expert] @ down[:, expert].float().T for expert in made.routed]
    return torch.stack([output.norm(dim=1) for output in outputs], dim=1)


def fitted(hidden: Tensor, wanted: Tensor) -> Tensor:
    """The router, [experts, hidden], of which the logits for `hidden`, [tokens, hidden], come
    nearest to `wanted`, [tokens, experts]."""
    ridge = _RIDGE * hidden.square().sum() / hidden.shape[1]
    gram = hidden.T @ hidden + ridge * torch.eye(hidden.shape[1], device=hidden.device)
    router: Tensor = torch.linalg.solve(gram, hidden.T @ wanted).T
    return router


def recall(scores: Tensor, oracle: Tensor, top_k: int) -> float:
    """The share of the oracle's `top_k` experts that a router's `top_k` hold; both are
    [tokens, experts]. Chance is top_k / experts."""
    chosen = scores.topk(top_k, dim=1).indices
    wanted = oracle.topk(top_k, dim=1).indices
    return float((chosen[:, :, None] == wanted[:, None, :]).any(dim=1).float().mean())
