"""Which neurons of a gated feed-forward block a token uses.

A block computes down @ (silu(gate @ x) * (up @ x)): a neuron is a row of gate and up, and the
column of down that they weigh. gate and up are [neurons, hidden], down is [hidden, neurons].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu


@contextmanager
def block_inputs(model: Any) -> Iterator[list[Tensor]]:
    """What each feed-forward block of a Qwen2 model is given while the context lasts: a list with
    one tensor [tokens, hidden] a layer, which grows by every pass's tokens."""
    layers = model.model.layers
    seen = [torch.empty(0, model.config.hidden_size) for _ in layers]

    def keep(number: int) -> Any:
        def hook(_: Any, args: tuple[Tensor]) -> None:
            tokens = args[0].detach().flatten(0, -2).float().cpu()
            seen[number] = torch.cat([seen[number], tokens])

        return hook

    handles = [
        layer.mlp.register_forward_pre_hook(keep(number)) for number, layer in enumerate(layers)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def strengths(block: Any, hidden: Tensor) -> Tensor:
    """How much each neuron adds to the block's output, [tokens, neurons]: its activation's size
    times the length of its column of down. `hidden`: [tokens, hidden]."""
    with torch.no_grad():
        gate, up, down = (
            part.weight.float() for part in (block.gate_proj, block.up_proj, block.down_proj)
        )
        inner: Tensor = silu(linear(hidden, gate)) * linear(hidden, up)
        lengths: Tensor = down.norm(dim=0)
        return inner.abs() * lengths


def marks(strength: Tensor, count: int) -> Tensor:
    """Each token's `count` strongest neurons: [tokens, neurons] of bool. CMoE's activation
    markers, https://arxiv.org/abs/2502.04416."""
    marked = torch.zeros_like(strength, dtype=torch.bool)
    return marked.scatter_(1, strength.topk(count, dim=1).indices, value=True)


def rates(marked: Tensor) -> Tensor:
    """The share of tokens, in [0, 1], for which each neuron is marked: [neurons]."""
    return marked.float().mean(dim=0)
