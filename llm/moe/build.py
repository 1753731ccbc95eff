"""A dense Qwen2 model's GGUF file and a recipe, made into a Qwen2-MoE GGUF file.

No torch: a machine that only serves builds its default model too. Names and shapes are
llama.cpp's for the architecture `qwen2moe`; how its weighing of the experts is folded away is
told in `export`. Each core makes a tensor at a time, so that memory holds few of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType as Kind
from gguf.constants import GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray

from llm.moe.quantise import quantise, stored
from llm.moe.recipe import BLOCK, SHARED_GATE, SPREAD, LayerRecipe, Recipe, RecipeError

Progress = Callable[[int, int], None]
"""Called with bytes written so far and bytes in all."""

_WHOLE = {Kind.F32, Kind.F16}
GROWN = Kind.Q8_0
"""Of experts that were grown: their rows are short, and blocks of 32 fit them."""
_FIELDS_OF_THE_FILE = ("GGUF.", "general.architecture", "general.name", "general.file_type")


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor of the new file."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    make: Callable[[], NDArray[Any]]


def build(
    dense: Path,
    recipe: Recipe,
    target: Path,
    *,
    kind: Kind | None = None,
    name: str = "",
    progress: Progress = lambda *_: None,
) -> None:
    """Write `target`. Matrices of the recipe's layers and the output matrix become `kind`, without
    one Q4_K where the blocks are cut, and what `_of_grown` says where they have grown; all else
    stays as it is. Raises RecipeError where the recipe is for another model."""
    reader = GGUFReader(dense)
    _check(reader, recipe)
    parts = list(_parts(reader, recipe, kind))
    writer = GGUFWriter(target, "qwen2moe")
    _describe(reader, writer, recipe, name or target.stem)
    for part in parts:
        writer.add_tensor_info(
            part.name, _stored(part), np.dtype(np.uint8), _bytes(part), raw_dtype=part.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done, total = 0, sum(map(_bytes, parts))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, made in zip(parts, pool.map(lambda part: part.make(), parts), strict=True):
            writer.write_tensor_data(made)
            done += _bytes(part)
            progress(done, total)
    writer.close()


def _check(reader: GGUFReader, recipe: Recipe) -> None:
    architecture = _field(reader, "general.architecture")
    if architecture != "qwen2":
        raise RecipeError(f"expected a GGUF file of the architecture qwen2, got {architecture}")
    layers, neurons = (
        _field(reader, f"qwen2.{key}") for key in ("block_count", "feed_forward_length")
    )
    if layers != len(recipe.layers) or any(len(layer.order) != neurons for layer in recipe.layers):
        raise RecipeError(
            f"expected a recipe for {layers} layers of {neurons} neurons, got {len(recipe.layers)} "
            f"of {len(recipe.layers[0].order)}"
        )


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.fields.get(name)
    if field is None:
        raise RecipeError(f"expected a GGUF file that says {name}")
    return field.contents()


def _describe(reader: GGUFReader, writer: GGUFWriter, recipe: Recipe, name: str) -> None:
    for field in reader.fields.values():
        if field.name.startswith(_FIELDS_OF_THE_FILE):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        key = field.name.replace("qwen2.", "qwen2moe.", 1)
        writer.add_key_value(key, field.contents(), field.types[0], inner)
    shape = recipe.shape
    writer.add_name(name)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.top_k)
    writer.add_expert_feed_forward_length(recipe.routed)
    writer.add_expert_shared_feed_forward_length(shape.shared)


def _parts(reader: GGUFReader, recipe: Recipe, wanted: Kind | None) -> Iterator[_Part]:
    grown = recipe.layers[0].grown is not None
    for tensor in reader.tensors:
        usual = _of_grown(tensor) if grown else Kind.Q4_K
        kind = usual if wanted is None else wanted  # F32 is number 0
        _, _, part = tensor.name.partition("blk.")
        number, _, part = part.partition(".")
        matrix = part.removesuffix(".weight")
        layer = recipe.layers[int(number)] if number else None
        if layer is not None and matrix in BLOCK:
            yield from _experts(tensor, f"blk.{number}.", matrix, layer, recipe, kind)
        elif tensor.name == "output.weight" or (
            layer is not None and part.endswith(".weight") and matrix in layer.corrections
        ):
            yield _whole(tensor, tensor.name, recipe, kind)
        else:
            yield _as_is(tensor, tensor.name)
    if not any(tensor.name == "output.weight" for tensor in reader.tensors):
        embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
        changed = _whole(embedding, "output.weight", recipe, embedding.tensor_type)
        yield changed if recipe.louder else _as_is(embedding, "output.weight")


def _of_grown(tensor: Any) -> Kind:
    """The dense model's own kinds: in four bits all through, a model as small as that loses one
    answer in eight. But the output matrix, a quarter of what each token reads, in one that
    llama.cpp's CPU kernels read several rows at a time."""
    own: Kind = tensor.tensor_type
    return Kind.Q4_0 if tensor.name == "output.weight" and own not in _WHOLE else own


def _as_is(tensor: Any, name: str) -> _Part:
    return _Part(name, _shape(tensor), tensor.tensor_type, lambda: tensor.data)


def _whole(tensor: Any, name: str, recipe: Recipe, kind: Kind) -> _Part:
    """An attention's matrix, or the output matrix."""
    _, number, matrix, _ = name.split(".") if name.startswith("blk.") else ("", "", "", "")

    def make() -> NDArray[Any]:
        weight = dequantize(tensor.data, tensor.tensor_type)
        corrected = recipe.layers[int(number)].corrected if number else None
        return _encode(corrected(matrix, weight) if corrected else recipe.output(weight), kind)

    return _Part(name, _shape(tensor), kind, make)


def _experts(
    tensor: Any, prefix: str, matrix: str, layer: LayerRecipe, recipe: Recipe, kind: Kind
) -> Iterator[_Part]:
    """The shared and the routed part of one of the block's matrices."""
    shape, (rows, columns) = recipe.shape, _shape(tensor)
    experts, inner = shape.experts, recipe.routed
    shared, routed = layer.order[: shape.shared], layer.order[shape.shared :]

    def corrected() -> NDArray[np.float32]:
        return layer.corrected(matrix, dequantize(tensor.data, tensor.tensor_type))

    def own() -> NDArray[np.float32]:
        """[experts, rows, columns] of the experts' matrices."""
        if layer.grown is not None:
            return layer.grown.matrix(matrix)
        if matrix == "ffn_down":
            return corrected()[:, routed].reshape(rows, experts, inner).swapaxes(0, 1) * experts
        return corrected()[routed].reshape(experts, inner, columns)

    if matrix == "ffn_down":
        yield _Part(
            f"{prefix}ffn_down_shexp.weight", (rows, shape.shared), kind,
            lambda: _encode(corrected()[:, shared] * 2, kind),
        )  # fmt: skip
    else:
        yield _Part(
            f"{prefix}{matrix}_shexp.weight", (shape.shared, columns), kind,
            lambda: _encode(corrected()[shared], kind),
        )  # fmt: skip
    expert = (rows, inner) if matrix == "ffn_down" else (inner, columns)
    routed_kind = GROWN if layer.grown is not None and kind not in _WHOLE else kind
    yield _Part(
        f"{prefix}{matrix}_exps.weight", (experts, *expert), routed_kind,
        lambda: _encode(own(), routed_kind),
    )  # fmt: skip
    if matrix == "ffn_gate":
        spread = np.float32(SPREAD if layer.grown is None else 1)
        yield _Part(
            f"{prefix}ffn_gate_inp.weight",
            layer.router.shape,
            Kind.F32,
            lambda: layer.router * spread,
        )
        yield _Part(
            f"{prefix}ffn_gate_inp_shexp.weight", (columns,), Kind.F32,
            lambda: np.full(columns, SHARED_GATE, np.float32),
        )  # fmt: skip


def _encode(weight: NDArray[np.float32], kind: Kind) -> NDArray[Any]:
    if kind in _WHOLE:
        return np.ascontiguousarray(weight, np.float32 if kind == Kind.F32 else np.float16)
    return quantise(weight, kind)


def _shape(tensor: Any) -> tuple[int, ...]:
    """Rows first, as numpy has it; a GGUF file says columns first."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _stored(part: _Part) -> tuple[int, ...]:
    try:
        return stored(part.shape, part.kind)
    except ValueError as error:
        raise RecipeError(f"{part.name}: {error}") from error


def _bytes(part: _Part) -> int:
    return int(np.prod(_stored(part), dtype=np.int64))
