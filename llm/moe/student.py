"""The model that learns: a dense one with its blocks cut, and corrections of low rank to train.

The weights stay as they are (in bfloat16, shared by nobody), and only the corrections and the
routers have gradients. A chosen expert is added in full; the router learns straight through that
(the gradient of sigmoid(logit) stands in for that of the choice), because the exported model
weighs all chosen experts alike (see `export`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from llm.moe.recipe import ATTENTION, LayerRecipe, Recipe, Shape


class Correction(nn.Module):
    """B @ A, begun at nothing (LoRA)."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] -> [..., rows]."""
        return linear(linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))

    def parts(self) -> tuple[Any, Any]:
        return self.b.detach().cpu().numpy(), self.a.detach().cpu().numpy()


class Adapted(nn.Module):
    """A linear layer and its correction."""

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        self.base = base
        rows, columns = base.weight.shape
        self.correction = Correction(rows, columns, rank)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.correction(x)
        return y


def adapt(part: Any, names: Mapping[str, str], rank: int) -> None:
    """Give `part`'s linear layers, those that `names` leads to, a correction each."""
    for own in names.values():
        setattr(part, own, Adapted(getattr(part, own), rank))


class CutBlock(nn.Module):
    """A feed-forward block, its neurons in the recipe's order. All experts are computed, and those
    not chosen weigh nothing: an accelerator takes longer to pick the tokens of each."""

    def __init__(self, block: Any, made: LayerRecipe, shape: Shape, rank: int) -> None:
        super().__init__()
        self.shape, self.order = shape, made.order
        order = torch.from_numpy(made.order).to(block.down_proj.weight.device)
        self.weights = {
            "gate": block.gate_proj.weight.data[order].contiguous(),
            "up": block.up_proj.weight.data[order].contiguous(),
            "down": block.down_proj.weight.data[:, order].contiguous(),
        }
        neurons, hidden = self.weights["gate"].shape
        self.router = nn.Parameter(torch.from_numpy(made.router.copy()))
        self.gate = Correction(neurons, hidden, rank)
        self.up = Correction(neurons, hidden, rank)
        self.down = Correction(hidden, neurons, rank)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> the same."""
        hidden = x.flatten(0, -2)
        active = silu(linear(hidden, self._corrected("gate"))) * linear(
            hidden, self._corrected("up")
        )
        always, routed = active[:, : self.shape.shared], active[:, self.shape.shared :]
        logits, chosen = (hidden.float() @ self.router.T).topk(self.shape.top_k, dim=1)
        soft = torch.sigmoid(logits)
        weights = torch.zeros(len(hidden), self.shape.experts, device=x.device)
        weights = weights.scatter(1, chosen, 1 + soft - soft.detach()).to(x.dtype)
        routed = routed.reshape(*weights.shape, -1) * weights[..., None]
        output = linear(torch.cat([always, routed.flatten(1)], dim=1), self._corrected("down"))
        return output.reshape(x.shape)

    def _corrected(self, name: str) -> Tensor:
        weight, correction = self.weights[name], getattr(self, name)
        return torch.addmm(weight, correction.b.to(weight.dtype), correction.a.to(weight.dtype))

    def learned(self) -> dict[str, tuple[Any, Any]]:
        """The corrections, of the dense block's matrices: neurons in their old order."""
        corrections = {}
        for name in ("gate", "up", "down"):
            b, a = (part.copy() for part in getattr(self, name).parts())
            if name == "down":
                a[:, self.order] = a.copy()
            else:
                b[self.order] = b.copy()
            corrections[f"ffn_{name}"] = b, a
        return corrections


def student(dense: Any, recipe: Recipe, *, block_rank: int, attention_rank: int) -> Any:
    """`dense`, which is changed, with its layers cut and ready to learn."""
    for parameter in dense.parameters():
        parameter.requires_grad_(False)
    for layer, made in zip(dense.model.layers, recipe.layers, strict=True):
        layer.mlp = CutBlock(layer.mlp, made, recipe.shape, block_rank)
        adapt(layer.self_attn, ATTENTION, attention_rank)
    return dense.to(dense.device)


def learned(model: Any) -> Recipe:
    """The recipe for what a student has become."""
    layers = []
    for layer in model.model.layers:
        corrections = layer.mlp.learned()
        for name, own in ATTENTION.items():
            corrections[name] = getattr(layer.self_attn, own).correction.parts()
        router = layer.mlp.router.detach().cpu().numpy()
        layers.append(LayerRecipe(layer.mlp.order, router, corrections))
    return Recipe(model.model.layers[0].mlp.shape, layers)
