"""Growing a dense model: its feed-forward blocks stay whole, as shared experts, and small routed
experts are added that give nothing at first.

So training begins with a model that is as good as the dense one (as sparse upcycling does,
https://arxiv.org/abs/2212.05055), and the experts' down projections begin at zero like LoRA's
second factor (https://arxiv.org/abs/2106.09685): the first step moves those, then all the rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2MoeForCausalLM

from llm.moe.export import assemble, moe_config, shared_gate


def grow(
    dense: Any, *, experts: int, neurons: int, top_k: int, seed: int = 0
) -> Qwen2MoeForCausalLM:
    """A Qwen2 model with `experts` routed experts of `neurons` beside each block. An expert
    begins with gate and up rows of the block's own neurons, drawn by chance, so that it sees
    directions that mean something. Raises ValueError when a block has fewer neurons."""
    if neurons > dense.config.intermediate_size:
        raise ValueError(
            f"expected experts of at most {dense.config.intermediate_size} neurons, got {neurons}"
        )
    generator = torch.Generator().manual_seed(seed)
    config = moe_config(dense.config, experts, neurons, dense.config.intermediate_size, top_k)
    blocks = [_block(layer.mlp, config, generator) for layer in dense.model.layers]
    return assemble(dense, config, blocks)


def _block(block: Any, config: Any, generator: torch.Generator) -> dict[str, Tensor]:
    gate, up, down = (
        part.weight.detach() for part in (block.gate_proj, block.up_proj, block.down_proj)
    )
    experts, neurons = config.num_experts, config.moe_intermediate_size
    drawn = torch.stack(
        [torch.randperm(len(gate), generator=generator)[:neurons] for _ in range(experts)]
    )
    router = torch.randn(experts, gate.shape[1], generator=generator)
    return {
        "gate.weight": router * config.initializer_range,
        "experts.gate_up_proj": torch.cat([gate[drawn], up[drawn]], dim=1),
        "experts.down_proj": torch.zeros(experts, gate.shape[1], neurons),
        "shared_expert.gate_proj.weight": gate,
        "shared_expert.up_proj.weight": up,
        "shared_expert.down_proj.weight": down * 2,
        "shared_expert_gate.weight": shared_gate(gate.shape[1]),
    }
