"""A mixture of experts by recipe, as llama.cpp and as transformers run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from assistant.cli import app
from llm.moe.build import build
from llm.moe.export import export
from llm.moe.quantise import quantise
from llm.moe.recipe import LayerRecipe, Recipe, RecipeError, Shape, read, save
from rating.likeliest import likeliest
from tests import tiny

NEURONS, HIDDEN, LAYERS = 96, 64, 2
SHAPE = Shape(shared=32, experts=8, top_k=3)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def dense(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = tiny.config("qwen2", intermediate_size=NEURONS, tie_word_embeddings=request.param)
    return AutoModelForCausalLM.from_config(config).eval()


def recipe(shape: Shape = SHAPE, neurons: int = NEURONS) -> Recipe:
    rng = np.random.default_rng(3)

    def floats(*size: int) -> Any:
        # What half precision holds exactly, so that a saved recipe is the same recipe.
        return (rng.normal(size=size) * 0.1).astype(np.float16).astype(np.float32)

    def layer() -> LayerRecipe:
        corrections = {
            "ffn_down": (floats(HIDDEN, 4), floats(4, neurons)),
            "ffn_gate": (floats(neurons, 4), floats(4, HIDDEN)),
            "attn_q": (floats(HIDDEN, 2), floats(2, HIDDEN)),
            "attn_v": (floats(HIDDEN // 2, 2), floats(2, HIDDEN)),
        }
        return LayerRecipe(rng.permutation(neurons), floats(shape.experts, HIDDEN), corrections)

    return Recipe(shape, [layer() for _ in range(LAYERS)], {5: 2.5, 17: 1.5})


def test_llama_cpp_and_transformers_agree_on_what_a_recipe_makes(
    dense: Any, tmp_path: Path
) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    save(recipe(), tmp_path / "recipe.npz")
    made = read(tmp_path / "recipe.npz")
    build(tmp_path / "dense.gguf", made, tmp_path / "moe.gguf", kind=Kind.F16)
    model: Any = export(dense, made, tmp_path / "moe")
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 320, size=length).tolist() for length in range(4, 24, 2)]
    for prompt, got in zip(prompts, likeliest(tmp_path / "moe.gguf", prompts, 40), strict=True):
        with torch.no_grad():
            wanted = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
            unlike = dense(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        tokens = list(got)
        assert len(tokens) == 40
        told = torch.tensor(list(got.values()))
        assert (told - wanted[tokens]).abs().mean() < 1e-2
        assert (told - unlike[tokens]).abs().mean() > 0.05


def test_progress_goes_from_nothing_to_all(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    seen: list[tuple[int, int]] = []
    build(
        tmp_path / "dense.gguf", recipe(), tmp_path / "moe.gguf", kind=Kind.F32,
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert {of for _, of in seen} == {seen[-1][1]}


def test_the_same_recipe_makes_the_same_file(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    for name in ("one", "two"):
        build(tmp_path / "dense.gguf", recipe(), tmp_path / name, kind=Kind.F16, name="moe")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_recipe_for_another_model_is_refused(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    other = recipe(Shape(32, 8, 2), neurons=160)
    with pytest.raises(RecipeError, match="for 2 layers of 96 neurons, got 2 of 160"):
        build(tmp_path / "dense.gguf", other, tmp_path / "moe.gguf")
    build(tmp_path / "dense.gguf", recipe(), tmp_path / "moe.gguf", kind=Kind.F16)
    with pytest.raises(RecipeError, match="architecture qwen2, got qwen2moe"):
        build(tmp_path / "moe.gguf", recipe(), tmp_path / "again.gguf")


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(RecipeError, match="other.npz is no recipe"):
        read(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(RecipeError, match="text.npz is no recipe"):
        read(tmp_path / "text.npz")
    broken = recipe()
    broken.layers[1].order[0] = broken.layers[1].order[1]
    save(broken, tmp_path / "broken.npz")
    with pytest.raises(RecipeError, match="layer 1: expected each neuron once"):
        read(tmp_path / "broken.npz")
    with pytest.raises(RecipeError, match="96 neurons to be a shared expert and 7 equal"):
        Shape(32, 7, 2).routed(96)


def test_ggmls_quantiser_keeps_four_bits_worth() -> None:
    weight = np.random.default_rng(0).normal(size=(3, 5, 512)).astype(np.float32)
    blocks = quantise(weight, Kind.Q4_K)
    assert blocks.shape == (3, 5, 288)
    error = dequantize(blocks, Kind.Q4_K) - weight
    assert 0.02 < float(np.sqrt((error**2).mean())) < 0.1
    with pytest.raises(ValueError, match="whole Q4_K blocks"):
        quantise(weight[..., :100], Kind.Q4_K)


def test_the_command_builds_and_says_in_one_line_what_is_wrong(dense: Any, tmp_path: Path) -> None:
    tiny.write_gguf(dense, tmp_path / "dense.gguf")
    save(recipe(), tmp_path / "recipe.npz")
    out = tmp_path / "moe.gguf"
    command = ["models", "build-moe", "-o", str(out), "--dense", str(tmp_path / "dense.gguf")]
    # Rows of 64 do not fill blocks of K-quants: this far the small model comes.
    refused = CliRunner().invoke(app, [*command, str(tmp_path / "recipe.npz")], prog_name="conch")
    assert refused.exit_code == 1
    assert "whole Q4_K blocks" in refused.stderr
    whole = [*command, "--whole", str(tmp_path / "recipe.npz")]
    assert CliRunner().invoke(app, whole, prog_name="conch").exit_code == 0
    assert {tensor.tensor_type for tensor in GGUFReader(out).tensors} <= {Kind.F16, Kind.F32}
    (tmp_path / "text.npz").write_text("hello")
    refused = CliRunner().invoke(app, [*command, str(tmp_path / "text.npz")], prog_name="conch")
    assert refused.exit_code == 1
    assert "text.npz is no recipe" in refused.stderr
