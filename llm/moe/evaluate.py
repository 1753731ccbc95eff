"""How near a model is to the one it came from. Logits are [tokens, vocabulary]."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax


def mean_kl(teacher: Tensor, student: Tensor) -> float:
    """The mean of KL(teacher || student), in nats a token."""
    wanted, got = log_softmax(teacher.float(), -1), log_softmax(student.float(), -1)
    return float(kl_div(got, wanted, log_target=True, reduction="batchmean"))


def agreement(teacher: Tensor, student: Tensor) -> float:
    """The share of tokens for which both find the same next token likeliest."""
    return float((teacher.argmax(-1) == student.argmax(-1)).float().mean())


def perplexity(logits: Tensor, tokens: Tensor) -> float:
    """Of `tokens`, [tokens], each but the first being predicted by the logits before it."""
    return math.exp(float(cross_entropy(logits[:-1].float(), tokens[1:])))
