"""A tiny dense model grows, learns, and is written for llama.cpp and for transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Kind
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from llm.moe.build import build
from llm.moe.export import export
from llm.moe.grown import learned, sprouting
from llm.moe.recipe import Shape, read, save
from rating.likeliest import likeliest
from tests import tiny

SHAPE = Shape(shared=96, experts=2, top_k=1)
TOKENS = torch.randint(2, 320, (4, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def dense() -> Any:
    torch.manual_seed(0)
    config = tiny.config("qwen2", intermediate_size=96)
    return AutoModelForCausalLM.from_config(config).eval()


def logits(model: Any, tokens: Tensor = TOKENS) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(tokens).logits
    return out


def taught(dense: Any, steps: int = 40) -> Any:
    model = sprouting(copy.deepcopy(dense), SHAPE, neurons=32, rank=4)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        cross_entropy(
            model(TOKENS).logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()
        ).backward()
        adam.step()
    return model


def test_it_begins_as_the_dense_model_and_learns(dense: Any) -> None:
    model = sprouting(copy.deepcopy(dense), SHAPE, neurons=32, rank=4)
    torch.testing.assert_close(logits(model), logits(dense))
    learner = taught(dense)
    for name, part in learner.named_parameters():
        moved = not torch.equal(part, dict(model.named_parameters())[name])
        assert moved == part.requires_grad, name
    likely = logits(learner)[:, :-1].argmax(-1) == TOKENS[:, 1:]
    assert likely.float().mean() > 0.5
    with pytest.raises(ValueError, match="at most 96 neurons in the routed experts, got 2 experts"):
        sprouting(dense, SHAPE, neurons=49, rank=4)


def test_llama_cpp_transformers_and_the_student_agree(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    learner = taught(dense)
    save(learned(learner), tmp_path / "recipe.npz")
    recipe = read(tmp_path / "recipe.npz")
    build(tmp_path / "dense.gguf", recipe, tmp_path / "moe.gguf", kind=Kind.F16)
    model: Any = export(dense, recipe, tmp_path / "moe")
    prompts = [row[:length].tolist() for row in TOKENS for length in (5, 12, 20)]
    for prompt, got in zip(prompts, likeliest(tmp_path / "moe.gguf", prompts, 40), strict=True):
        wanted = logits(model, torch.tensor([prompt]))[0, -1].log_softmax(-1)
        student = logits(learner, torch.tensor([prompt]))[0, -1].log_softmax(-1)
        told = torch.tensor(list(got.values()))
        assert (told - wanted[list(got)]).abs().mean() < 1e-2
        # Eight bits a number of the experts, sixteen of the corrections.
        assert (told - student[list(got)]).abs().mean() < 0.1


def test_a_grown_file_keeps_the_dense_models_kinds(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    build(tmp_path / "dense.gguf", learned(taught(dense, 1)), tmp_path / "moe.gguf")
    kinds = {
        tensor.name: tensor.tensor_type for tensor in GGUFReader(tmp_path / "moe.gguf").tensors
    }
    assert kinds["blk.0.ffn_down_shexp.weight"] == kinds["blk.0.attn_q.weight"] == Kind.F32
    assert kinds["blk.0.ffn_down_exps.weight"] == Kind.F32
