"""From a dense Qwen2 model and some text to a cut for each layer, and a router for each cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llm.moe.partition import Cut, cut, together
from llm.moe.profile import block_inputs, marks, strengths
from llm.moe.recipe import LayerRecipe, Recipe, Shape
from llm.moe.router import captured, expert_strengths, mean_gates, recall


@dataclass(frozen=True, slots=True)
class Carved:
    """One layer."""

    cut: Cut
    router: Tensor
    """[experts, hidden]"""
    inputs: Tensor
    """[tokens, hidden]: what the block was given."""
    together: float
    """The mean cosine between the marks of two neurons of one expert."""
    recall: float
    """The share of the experts that give most which the router finds."""
    captured: float
    """The share of what all routed experts give that the chosen ones give."""


def carve(
    dense: Any, texts: Iterable[Tensor], *, shared: int, experts: int, top_k: int, marked: int
) -> list[Carved]:
    """Read `texts`, each [sequences, tokens] of token numbers, and cut each layer by what its
    neurons did: `marked` of them count as used by a token. Recall and what is captured are of the
    same texts. Raises ValueError when the neurons do not come out even."""
    with block_inputs(dense) as inputs, torch.no_grad():
        for tokens in texts:
            dense.model(tokens)
    return [
        _carve_layer(layer.mlp, seen, shared, experts, top_k, marked)
        for layer, seen in zip(dense.model.layers, inputs, strict=True)
    ]


def recipe(layers: Sequence[Carved], top_k: int) -> Recipe:
    """What `export` and `build` go by. Raises ValueError for sizes that differ between layers."""
    shapes = {(tuple(made.cut.shared.shape), tuple(made.cut.routed.shape)) for made in layers}
    if len(shapes) != 1:
        raise ValueError(f"expected cuts of one shape for all layers, got {sorted(shapes)}")
    cut = layers[0].cut
    return Recipe(
        Shape(len(cut.shared), len(cut.routed), top_k),
        [
            LayerRecipe(
                torch.cat([made.cut.shared, made.cut.routed.flatten()]).numpy(),
                level(made.router, made.inputs).numpy(),
                {},
            )
            for made in layers
        ],
    )


def level(router: Tensor, hidden: Tensor) -> Tensor:
    """The router, [experts, hidden], scaled so that its logits for `hidden`, [tokens, hidden],
    spread over 1: from the largest to the smallest, on average."""
    logits = hidden @ router.float().T
    return router.float() / (logits.amax(dim=1) - logits.amin(dim=1)).mean()


def _carve_layer(
    block: Any, inputs: Tensor, shared: int, experts: int, top_k: int, marked: int
) -> Carved:
    strength = strengths(block, inputs)
    used = marks(strength, marked)
    made = cut(used, shared=shared, experts=experts)
    router = mean_gates(block.gate_proj.weight.detach().float(), made)
    scores, oracle = inputs @ router.T, expert_strengths(strength, made)
    return Carved(
        made,
        router,
        inputs,
        together(used, made),
        recall(scores, oracle, top_k),
        captured(scores, oracle, top_k),
    )
