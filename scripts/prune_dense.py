"""A dense model with neurons thrown away for good: what a mixture as small must beat.

    .venv/bin/python scripts/prune_dense.py --work out/moe -o out/pruned.gguf

The neurons that stay are those of the greatest worth (llm/moe/profile.py) while the packaged dense
model reads conversations with right answers (llm/moe/lessons.py). Nothing is taught afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType as Kind
from gguf.constants import GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from assistant.models import locate
from llm.moe.distil import Lesson
from llm.moe.lessons import teach
from llm.moe.profile import strengths, watch, worth
from llm.moe.quantise import quantise
from llm.moe.reading import read
from make_moe import DENSE, SHAPE, dense, unpack

CONVERSATIONS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    unpack(args.work / "dense", DENSE)
    tokenizer, model = AutoTokenizer.from_pretrained(args.work / "dense"), dense(args.work)
    neurons = model.config.intermediate_size
    kept = SHAPE.shared + SHAPE.top_k * SHAPE.routed(neurons)
    lessons = [read(tokenizer, one) for one in islice(teach(CONVERSATIONS, seed=1), CONVERSATIONS)]
    worths = list(_worths(model, lessons))
    best = [each.topk(kept).indices.sort().values.numpy() for each in worths]
    print(f"{kept} of {neurons} neurons")
    write(locate(DENSE), best, args.output)


def _worths(model: Any, lessons: list[Lesson]) -> list[Tensor]:
    """Of each layer's neurons, [neurons]."""
    with watch(model) as seen:
        for one in track(lessons, "reading"):
            embedded = model.get_input_embeddings()(one.tokens[None]).detach().requires_grad_()
            hidden = model.model(inputs_embeds=embedded).last_hidden_state[0]
            at = one.weights == 1
            logits = model.lm_head(hidden[at]).float()
            following = one.tokens.roll(-1)[at]
            torch.autograd.backward(cross_entropy(logits, following, reduction="sum"))
    with torch.no_grad():
        return [
            worth(strengths(block.inner, layer.mlp.down_proj.weight), block.importance)
            for layer, block in zip(model.model.layers, seen, strict=True)
        ]


def write(packed: Path, kept: list[NDArray[np.int64]], target: Path) -> None:
    """The GGUF file with those neurons only, its matrices in Q4_K as the mixture's are."""
    reader, writer = GGUFReader(packed), GGUFWriter(target, "qwen2")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "qwen2.feed_forward")):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_feed_forward_length(len(kept[0]))
    for tensor in reader.tensors:
        number = tensor.name.split(".")[1]
        cut = _CUTS.get(tensor.name.rpartition(f"{number}.")[2])
        if cut is None and tensor.name != "output.weight":
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
            continue
        whole = dequantize(tensor.data, tensor.tensor_type)
        part = whole if cut is None else cut(whole, kept[int(number)])
        writer.add_tensor(tensor.name, quantise(part, Kind.Q4_K), raw_dtype=Kind.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_CUTS: dict[str, Callable[..., NDArray[np.float32]]] = {
    "ffn_gate.weight": lambda whole, kept: whole[kept],
    "ffn_up.weight": lambda whole, kept: whole[kept],
    "ffn_down.weight": lambda whole, kept: whole[:, kept],
}

if __name__ == "__main__":
    main()
