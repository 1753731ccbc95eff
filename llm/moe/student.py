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

    def inner(self, x: Tensor) -> Tensor:
        """A @ x: [tokens, columns] -> [tokens, rank]."""
        return x @ self.a.to(x.dtype).T

    def outer(self, inner: Tensor, rows: slice = slice(None)) -> Tensor:
        """B @ that: [tokens, rank] -> [tokens, rows]."""
        return inner @ self.b[rows].to(inner.dtype).T

    def parts(self) -> tuple[Any, Any]:
        return self.b.detach().numpy(), self.a.detach().numpy()


class Adapted(nn.Module):
    """A linear layer and its correction."""

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        self.base = base
        rows, columns = base.weight.shape
        self.correction = Correction(rows, columns, rank)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.correction.outer(self.correction.inner(x))
        return y


def adapt(part: Any, names: Mapping[str, str], rank: int) -> None:
    """Give `part`'s linear layers, those that `names` leads to, a correction each."""
    for own in names.values():
        setattr(part, own, Adapted(getattr(part, own), rank))


class CutBlock(nn.Module):
    """A feed-forward block, its neurons in the recipe's order."""

    def __init__(self, block: Any, made: LayerRecipe, shape: Shape, rank: int) -> None:
        super().__init__()
        order = torch.from_numpy(made.order)
        self.shape, self.size = shape, shape.routed(len(order))
        self.order = made.order
        self.weights = [
            block.gate_proj.weight.data[order].contiguous(),
            block.up_proj.weight.data[order].contiguous(),
            block.down_proj.weight.data[:, order].T.contiguous(),
        ]
        neurons, hidden = self.weights[0].shape
        self.router = nn.Parameter(torch.from_numpy(made.router.copy()))
        self.gate = Correction(neurons, hidden, rank)
        self.up = Correction(neurons, hidden, rank)
        self.down = Correction(hidden, neurons, rank)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.flatten(0, -2)
        inner = self.gate.inner(hidden), self.up.inner(hidden)
        output, low = self._part(hidden, inner, slice(0, self.shape.shared))
        logits, chosen = (hidden.float() @ self.router.T).topk(self.shape.top_k, dim=1)
        soft = torch.sigmoid(logits)
        weights = (1 + soft - soft.detach()).to(x.dtype)
        for expert in range(self.shape.experts):
            tokens, place = (chosen == expert).nonzero(as_tuple=True)
            if not len(tokens):
                continue
            begin = self.shape.shared + expert * self.size
            given = [part[tokens] for part in inner]
            added, low_added = self._part(
                hidden[tokens], given, slice(begin, begin + self.size), weights[tokens, place, None]
            )
            output = output.index_add(0, tokens, added)
            low = low.index_add(0, tokens, low_added)
        return (output + self.down.outer(low)).reshape(x.shape)

    def _part(
        self, hidden: Tensor, inner: Any, rows: slice, weights: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """What some neurons add, [tokens, hidden], and add to the correction, [tokens, rank]."""
        gate, up, down = self.weights
        opened = linear(hidden, gate[rows]) + self.gate.outer(inner[0], rows)
        given = linear(hidden, up[rows]) + self.up.outer(inner[1], rows)
        active = silu(opened) * given * weights
        return active @ down[rows], active @ self.down.a[:, rows].to(active.dtype).T

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
    return dense


def learned(model: Any) -> Recipe:
    """The recipe for what a student has become."""
    layers = []
    for layer in model.model.layers:
        corrections = layer.mlp.learned()
        for name, own in ATTENTION.items():
            corrections[name] = getattr(layer.self_attn, own).correction.parts()
        router = layer.mlp.router.detach().numpy()
        layers.append(LayerRecipe(layer.mlp.order, router, corrections))
    return Recipe(model.model.layers[0].mlp.shape, layers)
