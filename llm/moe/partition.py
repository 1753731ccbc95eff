"""Cutting the neurons of a feed-forward block into a shared expert and equal routed ones.

The neurons that are worth most belong to the shared expert, which every token passes
(DeepSeekMoE, https://arxiv.org/abs/2401.06066; CMoE, https://arxiv.org/abs/2502.04416). The others
are put together with those that the same tokens use (MoEfication,
https://arxiv.org/abs/2110.01786), by k-means with clusters of one size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

_ROUNDS = 20
_GAIN = 1e-4
"""By how much the mean cosine between rows and their centres must grow for another round."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Numbers of neurons; each neuron is in exactly one place."""

    shared: Tensor
    """[shared neurons]"""
    routed: Tensor
    """[experts, neurons of an expert]"""


def cut(strength: Tensor, worth: Tensor, *, shared: int, experts: int, seed: int = 0) -> Cut:
    """From what each neuron adds, [tokens, neurons], and is worth, [neurons]: the `shared` of the
    greatest worth, and the rest in `experts` clusters. Raises ValueError when those would not be
    of one size."""
    neurons = strength.shape[1]
    if not 0 < shared < neurons or (neurons - shared) % experts:
        raise ValueError(
            f"expected {neurons} neurons to be {shared} shared ones and {experts} equal experts; "
            f"{neurons - shared} do not divide by {experts}"
        )
    order = worth.argsort(descending=True, stable=True)
    rest = order[shared:].sort().values
    clusters = balanced_clusters(strength[:, rest].T, experts, seed)
    return Cut(order[:shared].sort().values, rest[clusters])


def balanced_clusters(vectors: Tensor, count: int, seed: int = 0) -> Tensor:
    """Rows of `vectors`, [rows, size], in `count` equal clusters of like direction: their numbers,
    [count, rows / count], in ascending order within a cluster."""
    vectors = normalize(vectors, dim=1)
    likeness = vectors @ vectors[_spread_out(vectors, count, seed)].T
    members, reached = _assign(likeness), -1.0
    for _ in range(_ROUNDS):
        likeness = vectors @ normalize(vectors[members].mean(dim=1), dim=1).T
        moved = _assign(likeness)
        if (now := float(likeness.T.gather(1, moved).mean())) < reached + _GAIN:
            break
        members, reached = moved, now
    return members


def _spread_out(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Numbers of `count` rows, the first by chance and each next one with chances that grow with
    its distance from those before (k-means++)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    nearest = torch.full((len(vectors),), -1.0, device=vectors.device)
    while len(chosen) < count:
        nearest = torch.maximum(nearest, vectors @ vectors[chosen[-1]])
        chances = (1 - nearest).clamp(min=1e-6)
        chances[chosen] = 0
        chosen.append(int(torch.multinomial(chances.cpu(), 1, generator=generator)))
    return torch.tensor(chosen, device=vectors.device)


def _assign(likeness: Tensor) -> Tensor:
    """Give each row of `likeness`, [rows, clusters], to a cluster, those first that would lose
    most by another one; a full cluster takes no more. [clusters, rows / clusters]."""
    rows, clusters = likeness.shape
    size = rows // clusters
    best = likeness.topk(min(2, clusters), dim=1).values
    order = (best[:, 0] - best[:, -1]).argsort(descending=True, stable=True)
    choices = likeness.argsort(dim=1, descending=True, stable=True).tolist()
    members: list[list[int]] = [[] for _ in range(clusters)]
    for row in order.tolist():
        home = next(cluster for cluster in choices[row] if len(members[cluster]) < size)
        members[home].append(row)
    return torch.tensor([sorted(member) for member in members], device=likeness.device)
