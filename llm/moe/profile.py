"""What the neurons of gated feed-forward blocks do while a dense model reads.

A block computes down @ (silu(gate @ x) * (up @ x)): a neuron is a row of gate and up, and the
column of down that they weigh. gate and up are [neurons, hidden], down is [hidden, neurons].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Seen:
    """One block's, grown by each pass."""

    given: list[Tensor] = field(default_factory=list)
    active: list[Tensor] = field(default_factory=list)

    @property
    def inputs(self) -> Tensor:
        """[tokens, hidden]: what the block was given."""
        return torch.cat([part.detach().flatten(0, -2) for part in self.given]).float()

    @property
    def inner(self) -> Tensor:
        """[tokens, neurons]: the activations, which down weighs."""
        return torch.cat([part.detach().flatten(0, -2) for part in self.active]).float()

    @property
    def importance(self) -> Tensor:
        """[tokens, neurons]: how much the loss would change, to the first order, if the
        activation were nothing (Molchanov et al., https://arxiv.org/abs/1906.10771). Zero
        where no gradient came."""
        moved = [
            torch.zeros_like(part) if part.grad is None else part.detach() * part.grad
            for part in self.active
        ]
        return torch.cat([part.flatten(0, -2) for part in moved]).float().abs()


@contextmanager
def watch(model: Any) -> Iterator[list[Seen]]:
    """Each layer's block of a Qwen2 model while the context lasts. Run the model on embeddings
    that want a gradient, and send a loss back, for the importance."""
    layers = model.model.layers
    seen = [Seen() for _ in layers]

    def keep(into: list[Tensor], _: Any, args: tuple[Tensor]) -> None:
        if args[0].requires_grad:
            args[0].retain_grad()
        into.append(args[0])

    handles = []
    for layer, block in zip(layers, seen, strict=True):
        handles += [
            layer.mlp.register_forward_pre_hook(partial(keep, block.given)),
            layer.mlp.down_proj.register_forward_pre_hook(partial(keep, block.active)),
        ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def strengths(inner: Tensor, down: Tensor) -> Tensor:
    """How much each neuron adds to the block's output, [tokens, neurons]: its activation's size
    times the length of its column of `down`, [hidden, neurons]."""
    strength: Tensor = inner.abs() * down.float().norm(dim=0)
    return strength


def worth(strength: Tensor, importance: Tensor) -> Tensor:
    """One number a neuron, [neurons], from both, [tokens, neurons]: its share of what the block
    adds (root mean square) and of what matters to the loss."""
    adds, matters = strength.square().mean(dim=0).sqrt(), importance.mean(dim=0)
    return adds / adds.sum() + matters / matters.sum().clamp(min=1e-12)
