"""From a dense Qwen2 model and some replies to a cut for each layer, and a router for each cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llm.moe.partition import Cut, cut
from llm.moe.profile import Seen, strengths, watch, worth
from llm.moe.recipe import LayerRecipe, Recipe, Shape
from llm.moe.router import fitted, lengths, recall


@dataclass(frozen=True, slots=True)
class Carved:
    """One layer."""

    cut: Cut
    router: Tensor
    """[experts, hidden], level."""
    worth: Tensor
    """[neurons]"""
    recall: float
    """The share of the experts that add most which the router finds."""
    lost: float
    """The share of the block's output, in squares, that the tokens' other experts would add."""


def carve(
    dense: Any, texts: Iterable[tuple[Tensor, Tensor]], shape: Shape, *, seed: int = 0
) -> list[Carved]:
    """Let `dense` read texts, each token numbers, [tokens], and which of them a reply holds,
    [tokens] of bool, and cut each layer by what its neurons did. Recall and what is lost are of
    the same texts. Raises ValueError when the neurons do not come out even."""
    with watch(dense) as seen:
        for tokens, spoken in texts:
            embedded = dense.get_input_embeddings()(tokens[None]).detach().requires_grad_()
            hidden = dense.model(inputs_embeds=embedded).last_hidden_state[0, :-1]
            wanted = spoken[1:]
            logits = dense.lm_head(hidden[wanted]).float()
            torch.autograd.backward(cross_entropy(logits, tokens[1:][wanted], reduction="sum"))
    with torch.no_grad():
        return [
            _carve_layer(layer.mlp.down_proj.weight, block, shape, seed)
            for layer, block in zip(dense.model.layers, seen, strict=True)
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
                torch.cat([made.cut.shared, made.cut.routed.flatten()]).cpu().numpy(),
                made.router.cpu().numpy(),
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


def _carve_layer(down: Tensor, seen: Seen, shape: Shape, seed: int) -> Carved:
    inner, hidden = seen.inner, seen.inputs
    strength = strengths(inner, down)
    value = worth(strength, seen.importance)
    made = cut(strength, value, shared=shape.shared, experts=shape.experts, seed=seed)
    adds = lengths(inner, down, made)
    router = level(fitted(hidden, adds), hidden)
    scores = hidden @ router.T
    return Carved(
        made,
        router,
        value,
        recall(scores, adds, shape.top_k),
        _lost(inner, down, made, scores, shape),
    )


def _lost(inner: Tensor, down: Tensor, made: Cut, scores: Tensor, shape: Shape) -> float:
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.topk(shape.top_k, dim=1).indices, value=True)
    missing = torch.zeros_like(inner)
    missing[:, made.routed.flatten()] = inner[:, made.routed.flatten()]
    missing[:, made.routed.flatten()] *= ~kept.repeat_interleave(made.routed.shape[1], dim=1)
    weight = down.float().T
    return float((missing @ weight).square().sum() / (inner @ weight).square().sum())
