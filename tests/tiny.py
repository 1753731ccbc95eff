"""Language models small enough to be made in a test: random weights, a trained tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from llm.interfaces import Prompt
from llm.wire import encode_prompt

torch.set_num_threads(1)  # more only get in each other's way with models of this size

TEMPLATE = """{%- if tools %}<|start|>system
# Tools{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|end|>
{% endif %}{%- for message in messages %}<|start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls %}<tool_call>
{{ call.function | tojson }}</tool_call>{% endfor %}<|end|>
{% endfor %}{%- if add_generation_prompt %}<|start|>assistant
{% endif %}"""
WORDS = "the quick brown fox jumps over a lazy dog while system user and assistant talk of weather"
STOP = 1
_SHAPE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": STOP,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
"""Weights spread wide enough that what a token attends to shows in the next one."""
_LOCAL = {"intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2}
_QWEN = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("MixtralConfig", _LOCAL),
    "qwen2-moe": ("Qwen2MoeConfig", {**_QWEN, "shared_expert_intermediate_size": 32}),
    "qwen3-moe": ("Qwen3MoeConfig", {**_QWEN, "head_dim": 16}),
    "olmoe": ("OlmoeConfig", {**_QWEN, "intermediate_size": 32}),
    "granite-moe": ("GraniteMoeConfig", _LOCAL),
    "gpt-oss": (
        "GptOssConfig",
        {
            **_LOCAL,
            "head_dim": 16,
            "sliding_window": 8,
            "rope_parameters": {"rope_type": "default"},
        },
    ),
    "minimax": ("MiniMaxConfig", {**_LOCAL, "head_dim": 16, "block_size": 16}),
    "minimax-linear-first": (
        "MiniMaxConfig",
        {
            **_LOCAL,
            "head_dim": 16,
            "block_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "lfm2-moe": (
        "Lfm2MoeConfig",
        {
            **_QWEN,
            "intermediate_size": 32,
            "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention"],
        },
    ),
    "qwen2": ("Qwen2Config", {"intermediate_size": 64}),
}


def config(kind: str, **changes: Any) -> Any:
    name, own = KINDS[kind]
    made = getattr(transformers, name)(**{**_SHAPE, **own, **changes})
    made.dtype = torch.float32
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS] * 4, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<pad>")
    made.chat_template = TEMPLATE
    return made


def save(directory: Path, kind: str, **changes: Any) -> Path:
    """A checkpoint with random weights, the same each time."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(kind, **changes)).eval()
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


def learn(directory: Path, lines: Sequence[tuple[Prompt, str]]) -> Path:
    """Teach the checkpoint to answer each prompt with its line, until it does."""
    reader = tokenizer()
    model = AutoModelForCausalLM.from_pretrained(directory).train()
    examples = [_example(reader, prompt, line) for prompt, line in lines]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        losses = [model(input_ids=ids, labels=labels).loss for ids, labels in examples]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        if max(losses) < 0.05:
            break
    model.save_pretrained(directory)
    return directory


def _example(
    reader: PreTrainedTokenizerFast, prompt: Prompt, line: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [1, n], and the same with everything before the line masked."""
    text = reader.apply_chat_template(
        **_as_template(prompt), tokenize=False, add_generation_prompt=True
    )
    asked, answered = reader.encode(text), reader.encode(line + "<|end|>")
    return (
        torch.tensor([asked + answered]),
        torch.tensor([[-100] * len(asked) + answered]),
    )


def _as_template(prompt: Prompt) -> dict[str, Any]:
    request = encode_prompt(prompt)
    return {"conversation": request["messages"], "tools": request.get("tools")}


_GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(model: Any, path: Path) -> None:
    """A Qwen2 model as llama.cpp reads it, its tokens named by their numbers."""
    config = model.config
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t 1"])
    writer.add_eos_token_id(STOP)
    tied = config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            writer.add_tensor(_gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    stem, _, ending = name.removeprefix("model.").rpartition(".")
    if not stem.startswith("layers."):
        stem = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[stem]
        return f"{stem}.{ending}"
    _, number, part = stem.split(".", 2)
    return f"blk.{number}.{_GGUF_NAMES[part]}.{ending}"
