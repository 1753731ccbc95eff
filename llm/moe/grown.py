"""A dense model that grows: its feed-forward blocks stay whole, as shared experts, and small routed
experts beside them learn, together with corrections of low rank for the rest.

So training begins with a model that is as good as the dense one (as sparse upcycling does,
https://arxiv.org/abs/2212.05055), and the experts' down projections begin at zero like LoRA's
second factor (https://arxiv.org/abs/2106.09685): the first step moves those, then all the rest.
An expert's output is weighted by its softmax probability among all, as Qwen2-MoE does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from llm.moe.recipe import ATTENTION, BLOCK, Grown, LayerRecipe, Recipe, Shape
from llm.moe.student import adapt


class GrownBlock(nn.Module):
    """A feed-forward block with its corrections, and routed experts beside it."""

    def __init__(self, block: Any, shape: Shape, neurons: int, rank: int) -> None:
        super().__init__()
        self.block, self.shape, self.neurons = block, shape, neurons
        adapt(block, BLOCK, rank)
        gate, up = (getattr(block, own).base.weight for own in ("gate_proj", "up_proj"))
        hidden = gate.shape[1]
        # An expert sees what some of the block's own neurons see: directions that mean something.
        drawn = torch.randperm(len(gate))[: shape.experts * neurons]
        self.gate = nn.Parameter(gate.detach()[drawn].float())
        self.up = nn.Parameter(up.detach()[drawn].float())
        self.down = nn.Parameter(torch.zeros(shape.experts * neurons, hidden))
        self.router = nn.Parameter(torch.randn(shape.experts, hidden) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> the same. All experts are computed, and those not chosen weigh nothing:
        they are so small that picking tokens would cost more."""
        tokens = x.flatten(0, -2)
        likely, chosen = torch.softmax(tokens.float() @ self.router.T, -1).topk(self.shape.top_k)
        weights = torch.zeros(len(tokens), self.shape.experts).scatter(1, chosen, likely)
        gate, up, down = (part.to(x.dtype) for part in (self.gate, self.up, self.down))
        active = silu(linear(tokens, gate)) * linear(tokens, up)
        active = active.reshape(len(tokens), self.shape.experts, self.neurons)
        added = (active * weights.to(x.dtype)[..., None]).flatten(1) @ down
        whole: Tensor = self.block(x) + added.reshape(x.shape)
        return whole

    def learned(self) -> Grown:
        parts = (part.detach().numpy() for part in (self.gate, self.up, self.down))
        gate, up, down = (part.reshape(self.shape.experts, self.neurons, -1) for part in parts)
        return Grown(gate, up, down)


def sprouting(dense: Any, shape: Shape, *, neurons: int, rank: int, seed: int = 0) -> Any:
    """`dense`, which is changed: experts of `neurons` beside each block, ready to learn. Raises
    ValueError when a block has fewer neurons than all of them together."""
    if shape.experts * neurons > dense.config.intermediate_size:
        raise ValueError(
            f"expected at most {dense.config.intermediate_size} neurons in the routed experts, got "
            f"{shape.experts} experts of {neurons}"
        )
    torch.manual_seed(seed)
    dense.requires_grad_(False)
    for layer in dense.model.layers:
        layer.mlp = GrownBlock(layer.mlp, shape, neurons, rank)
        adapt(layer.self_attn, ATTENTION, rank)
    return dense


def learned(model: Any) -> Recipe:
    """The recipe for what a grown model has become."""
    layers = []
    for layer in model.model.layers:
        corrections = {
            name: getattr(part, own).correction.parts()
            for part, names in ((layer.self_attn, ATTENTION), (layer.mlp.block, BLOCK))
            for name, own in names.items()
        }
        order = np.arange(layer.mlp.block.gate_proj.base.weight.shape[0])
        router = layer.mlp.router.detach().numpy()
        layers.append(LayerRecipe(order, router, corrections, layer.mlp.learned()))
    return Recipe(model.model.layers[0].mlp.shape, layers)
