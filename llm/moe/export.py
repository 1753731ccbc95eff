"""Writing a dense Qwen2 model that was cut, or has grown, as a Qwen2-MoE checkpoint, an
architecture that transformers and llama.cpp know.

With all experts active a cut one computes what the dense model does. The class weighs what it adds
up, and the weights are folded away; those of routed experts that were grown stay, because they were
learned so:

- A routed expert's output is weighted by its softmax probability among all E experts, which are
  not made to sum to one again (norm_topk_prob is False). The router's rows are made so short that
  its logits spread over about 0.001: the order of the experts stays, each weight is 1/E to a part
  in a thousand, and the routed down projections are multiplied by E, a power of two, so that no
  bit is lost.
- The shared expert's output is weighted by sigmoid(w @ x). With w near zero that is 1/2, and the
  shared down projection is doubled. w is not zero, because a tensor of zeros has no scale where
  it is quantised.
- The output matrix is written out where the dense model shares it with its embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from llm.moe.recipe import ATTENTION, BLOCK, SHARED_GATE, SPREAD, LayerRecipe, Recipe, Shape

_SAME = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act "
    "max_position_embeddings initializer_range rms_norm_eps rope_parameters bos_token_id "
    "eos_token_id pad_token_id attention_dropout"
).split()


def export(dense: Any, recipe: Recipe, directory: Path) -> Qwen2MoeForCausalLM:
    """The model that the recipe makes of `dense`, also saved. Raises ValueError for a number of
    experts that is no power of two."""
    shape = recipe.shape
    if shape.experts & (shape.experts - 1):
        raise ValueError(f"expected a power of two as the number of experts, got {shape.experts}")
    config = moe_config(dense.config, shape.experts, recipe.routed, shape.shared, shape.top_k)
    layers = list(zip(dense.model.layers, recipe.layers, strict=True))
    model = assemble(dense, config, [_block(layer.mlp, made, shape) for layer, made in layers])
    with torch.no_grad():
        for layer, made in zip(model.model.layers, recipe.layers, strict=True):
            for name, own in ATTENTION.items():
                part = getattr(layer.self_attn, own)
                part.weight.copy_(_corrected(made, name, part.weight))
        output = model.lm_head.weight
        output.copy_(torch.from_numpy(recipe.output(output.float().numpy())))
    model.save_pretrained(directory)
    return model


def checkpoint_of(
    packed: Path, recipe: Recipe, directory: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """The same from a dense model's GGUF file, with its tokenizer. Raises ValueError, OSError."""
    dense = unpacked(packed, dtype)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(directory)
    export(dense, recipe, directory)


def unpacked(packed: Path, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A GGUF file's weights as a model of transformers (which needs `accelerate`)."""
    options = {"gguf_file": packed.name, "dtype": dtype}
    model: Any = AutoModelForCausalLM.from_pretrained(packed.parent, **options)
    # What says that it was packed keeps transformers from saving it.
    del model.config.quantization_config
    plain: Any = Qwen2ForCausalLM(model.config)
    plain.to(dtype).eval()
    plain.load_state_dict(model.state_dict())
    return plain


def moe_config(dense: Any, experts: int, neurons: int, shared: int, top_k: int) -> Qwen2MoeConfig:
    """A configuration for a Qwen2 model's, with `experts` of `neurons` and a shared expert."""
    return Qwen2MoeConfig(
        **{name: getattr(dense, name) for name in _SAME},
        intermediate_size=dense.intermediate_size,
        moe_intermediate_size=neurons,
        shared_expert_intermediate_size=shared,
        num_experts=experts,
        num_experts_per_tok=top_k,
        norm_topk_prob=False,
        decoder_sparse_step=1,
        tie_word_embeddings=False,
        dtype=dense.dtype,
    )


def assemble(
    dense: Any, config: Qwen2MoeConfig, blocks: Sequence[dict[str, Tensor]]
) -> Qwen2MoeForCausalLM:
    """The dense model with each layer's feed-forward block replaced by the named tensors."""
    state = {name: tensor for name, tensor in dense.state_dict().items() if ".mlp." not in name}
    state["lm_head.weight"] = dense.get_output_embeddings().weight
    for number, block in enumerate(blocks):
        state |= {f"model.layers.{number}.mlp.{name}": tensor for name, tensor in block.items()}
    model: Qwen2MoeForCausalLM = Qwen2MoeForCausalLM(config).to(dense.dtype).eval()
    with torch.no_grad():
        model.load_state_dict(state)
    model.generation_config = dense.generation_config
    return model


def shared_gate(hidden: int) -> Tensor:
    """[1, hidden], of which the sigmoid is one half."""
    return torch.full((1, hidden), SHARED_GATE)


def _corrected(made: LayerRecipe, name: str, weight: Tensor) -> Tensor:
    return torch.from_numpy(made.corrected(name, weight.detach().float().numpy()))


def _block(block: Any, made: LayerRecipe, shape: Shape) -> dict[str, Tensor]:
    gate, up, down = (
        _corrected(made, name, getattr(block, own).weight) for name, own in BLOCK.items()
    )
    order = torch.from_numpy(made.order)
    shared = order[: shape.shared]
    # [experts, 2 x neurons, hidden] and [experts, hidden, neurons]
    if made.grown is not None:
        spread = 1.0
        opening = torch.from_numpy(np.concatenate([made.grown.gate, made.grown.up], axis=1))
        closing = torch.from_numpy(made.grown.matrix("ffn_down"))
    else:
        spread, routed = SPREAD, order[shape.shared :].reshape(shape.experts, -1)
        opening = torch.cat([gate[routed], up[routed]], dim=1)
        closing = down.T[routed].transpose(1, 2) * shape.experts
    return {
        "gate.weight": torch.from_numpy(made.router) * spread,
        "experts.gate_up_proj": opening,
        "experts.down_proj": closing,
        "shared_expert.gate_proj.weight": gate[shared],
        "shared_expert.up_proj.weight": up[shared],
        "shared_expert.down_proj.weight": down[:, shared] * 2,
        "shared_expert_gate.weight": shared_gate(gate.shape[1]),
    }
