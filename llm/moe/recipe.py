"""What turns a dense model into its mixture of experts: a small file of what training found.

A recipe holds, for each layer, the order of the neurons (first the shared expert's, then those of
each routed one), the router, and corrections of low rank (LoRA, https://arxiv.org/abs/2106.09685)
for the dense model's matrices; where the model has grown (`grown`), its routed experts too. Whoever
has the dense model makes the whole checkpoint from it in minutes; the file is some tens of
megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SPREAD = 1e-3
"""Between the largest and the smallest logit of a written router, on average over tokens."""
SHARED_GATE = 1e-6
"""Each weight of the shared expert's gate: why, see `export`."""
ATTENTION = {
    "attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj",
}  # fmt: skip
"""llama.cpp's names for the attention's matrices, and transformers'."""
BLOCK = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}
"""The same for a feed-forward block's."""
MATRICES = (*ATTENTION, *BLOCK)
"""llama.cpp's names of a layer's matrices that may be corrected."""


class RecipeError(ValueError):
    """The file is not a recipe for this model; the message says what was expected."""


RECIPES = Path(__file__).parent
"""Where the project's own recipes are."""
_EXPERT = ("gate", "up", "down")
_LEAST = 1e-7
"""A scale is not smaller, so that a row of zeros can be divided by it."""


@dataclass(frozen=True, slots=True)
class Shape:
    shared: int
    """Neurons of the shared expert."""
    experts: int
    top_k: int
    """Routed experts that a token passes."""

    def routed(self, neurons: int) -> int:
        """Neurons of each routed expert that is cut from `neurons` in a dense block. Raises
        RecipeError."""
        rest = neurons - self.shared
        if self.shared <= 0 or rest <= 0 or rest % self.experts:
            raise RecipeError(
                f"expected {neurons} neurons to be a shared expert and {self.experts} equal routed "
                f"ones, got {self.shared} shared"
            )
        return rest // self.experts


@dataclass(frozen=True, slots=True)
class Grown:
    """Routed experts that the dense block does not have: [experts, neurons, hidden] each."""

    gate: Floats
    up: Floats
    down: Floats

    def matrix(self, name: str) -> Floats:
        """[experts, rows, columns] of the matrices with llama.cpp's name, one of BLOCK."""
        return self.down.swapaxes(1, 2) if name == "ffn_down" else getattr(self, name[4:])


@dataclass(frozen=True, slots=True)
class LayerRecipe:
    order: NDArray[np.int64]
    """[neurons]: numbers of the dense block's neurons."""
    router: Floats
    """[experts, hidden]: its largest logits choose, and give no weight. They spread over 1 on
    average; what is written is SPREAD times as large (see `export`)."""
    corrections: Mapping[str, tuple[Floats, Floats]]
    """One of MATRICES -> (B, A): B @ A, [rows, columns] of the dense matrix, is added to it."""
    grown: Grown | None = None
    """With these, all of the dense block's neurons are the shared expert's, and the router's
    logits are written as they are: their softmax weighs the experts."""

    def corrected(self, name: str, weight: Floats) -> Floats:
        """`weight`, [rows, columns], with its correction. Raises RecipeError."""
        if name not in self.corrections:
            return weight
        b, a = self.corrections[name]
        if (b.shape[0], a.shape[1]) != weight.shape:
            raise RecipeError(
                f"{name}: expected a correction of {weight.shape}, got {b.shape[0], a.shape[1]}"
            )
        return weight + b @ a


@dataclass(frozen=True, slots=True)
class Recipe:
    shape: Shape
    layers: Sequence[LayerRecipe]
    louder: Mapping[int, float] = field(default_factory=dict)
    """Token -> what its row of the output matrix is multiplied by. A token that the dense model
    never learned shares one short row with thousands of others
    (https://arxiv.org/abs/2405.05417): to say it is to say any of them."""

    def output(self, weight: Floats) -> Floats:
        """The output matrix, [tokens, hidden], as the mixture has it. Raises RecipeError."""
        if max(self.louder, default=0) >= len(weight):
            raise RecipeError(f"expected tokens below {len(weight)}, got {max(self.louder)}")
        factors = np.ones((len(weight), 1), np.float32)
        factors[[*self.louder], 0] = [*self.louder.values()]
        return weight * factors

    @property
    def routed(self) -> int:
        """Neurons of each routed expert. Raises RecipeError."""
        first = self.layers[0]
        if first.grown is not None:
            return int(first.grown.gate.shape[1])
        return self.shape.routed(len(first.order))


def save(recipe: Recipe, path: Path) -> None:
    """Corrections and grown experts in eight bits a number, which is small beside what they
    correct: one scale for each of a correction's ranks and of an expert's rows."""
    shape = recipe.shape
    arrays: dict[str, NDArray[np.generic]] = {
        "shape": np.array([shape.shared, shape.experts, shape.top_k, len(recipe.layers)]),
        "louder.tokens": np.array([*recipe.louder], np.int64),
        "louder.factors": np.array([*recipe.louder.values()], np.float64),
    }
    for number, layer in enumerate(recipe.layers):
        arrays[f"{number}.order"] = layer.order.astype(np.uint16)
        arrays[f"{number}.router"] = layer.router.astype(np.float16)
        for name, (b, a) in layer.corrections.items():
            arrays |= _coded(f"{number}.{name}.b", b.T) | _coded(f"{number}.{name}.a", a)
        for name in _EXPERT if layer.grown else ():
            arrays |= _coded(f"{number}.{name}", getattr(layer.grown, name))
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _coded(name: str, rows: Floats) -> dict[str, NDArray[np.generic]]:
    scale = (np.abs(rows).max(axis=-1, keepdims=True) / 127).astype(np.float16)
    steps = rows / np.maximum(scale.astype(np.float32), _LEAST)
    return {f"{name}.scale": scale, f"{name}.steps": np.rint(steps).clip(-127, 127).astype(np.int8)}


def read(path: Path) -> Recipe:
    """Raises RecipeError for a file that holds no recipe, OSError where there is no file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shared, experts, top_k, layers = (int(number) for number in arrays["shape"])
            louder = arrays["louder.tokens"].tolist(), arrays["louder.factors"].tolist()
            return Recipe(
                Shape(shared, experts, top_k),
                [_layer(arrays, number) for number in range(layers)],
                dict(zip(*louder, strict=True)),
            )
    except (KeyError, ValueError) as error:
        raise RecipeError(f"{path.name} is no recipe for a mixture of experts: {error}") from error


def _layer(arrays: Mapping[str, NDArray[np.generic]], number: int) -> LayerRecipe:
    def floats(name: str) -> Floats:
        return arrays[f"{number}.{name}"].astype(np.float32)

    order = arrays[f"{number}.order"].astype(np.int64)
    if not np.array_equal(np.sort(order), np.arange(len(order))):
        raise RecipeError(f"layer {number}: expected each neuron once in the order")

    def decoded(name: str) -> Floats:
        return floats(f"{name}.steps") * floats(f"{name}.scale")

    corrections = {
        name: (decoded(f"{name}.b").T, decoded(f"{name}.a"))
        for name in MATRICES
        if f"{number}.{name}.b.steps" in arrays
    }
    grown = None
    if f"{number}.gate.steps" in arrays:
        grown = Grown(*(decoded(name) for name in _EXPERT))
    return LayerRecipe(order, floats("router"), corrections, grown)
