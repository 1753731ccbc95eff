"""A router that needs no training: what opens an expert's neurons opens the expert.

A gated neuron is open where gate @ x is large, so the mean of an expert's gate rows points to the
tokens that it is for (ExpertWeaver, https://arxiv.org/abs/2602.15521). The oracle, which sees what
every neuron gives, says how good that is.
"""

from __future__ import annotations

from torch import Tensor

from llm.moe.partition import Cut


def mean_gates(gate: Tensor, made: Cut) -> Tensor:
    """The router, [experts, hidden], from the block's gate, [neurons, hidden]."""
    return gate[made.routed].mean(dim=1)


def expert_strengths(strength: Tensor, made: Cut) -> Tensor:
    """What each expert gives, [tokens, experts], from the neurons', [tokens, neurons]."""
    return strength[:, made.routed].sum(dim=2)


def recall(scores: Tensor, oracle: Tensor, top_k: int) -> float:
    """The share of the oracle's `top_k` experts that a router's `top_k` hold; both are
    [tokens, experts]. Chance is top_k / experts."""
    chosen = scores.topk(top_k, dim=1).indices
    wanted = oracle.topk(top_k, dim=1).indices
    return float((chosen[:, :, None] == wanted[:, None, :]).any(dim=1).float().mean())


def captured(scores: Tensor, oracle: Tensor, top_k: int) -> float:
    """Of what all experts give, [tokens, experts], the share that the router's `top_k` give."""
    chosen = oracle.gather(1, scores.topk(top_k, dim=1).indices)
    return float((chosen.sum(dim=1) / oracle.sum(dim=1)).mean())
