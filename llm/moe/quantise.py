"""Q4_K and its like, by the quantiser inside llama.cpp.

xllamacpp's library exports ggml's C functions; Python's gguf package reads these formats but
cannot write K-quants.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import xllamacpp.xllamacpp
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import quant_shape_to_byte_shape
from numpy.typing import NDArray


@cache
def _ggml() -> Any:
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    quantise = library.ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    quantise.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return quantise


def stored(shape: tuple[int, ...], kind: Kind) -> tuple[int, ...]:
    """The shape in bytes of numbers of that shape. Raises ValueError where the last one does not
    fill whole blocks."""
    try:
        return quant_shape_to_byte_shape(shape, kind)
    except ValueError as error:
        raise ValueError(f"expected rows of whole {kind.name} blocks: {error}") from error


def quantise(weight: NDArray[np.float32], kind: Kind) -> NDArray[np.uint8]:
    """`weight`, [..., columns], as ggml's blocks, [..., bytes]. Raises ValueError where the columns
    do not fill whole blocks."""
    weight = np.ascontiguousarray(weight, np.float32)
    blocks = np.empty(stored(weight.shape, kind), np.uint8)
    columns = weight.shape[-1]
    # Q4_0 looks for the scale with the least error only where it is told how much a column counts.
    counts = np.ones(columns, np.float32) if kind == Kind.Q4_0 else None
    _ggml()(
        int(kind), weight.ctypes.data, blocks.ctypes.data, 0, weight.size // columns, columns,
        None if counts is None else counts.ctypes.data,
    )  # fmt: skip
    return blocks
