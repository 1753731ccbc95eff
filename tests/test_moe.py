"""Mixtures of experts made from tiny dense models with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, silu
from transformers import AutoModelForCausalLM, Qwen2MoeForCausalLM

from llm.moe.carve import Carved, carve, level, recipe
from llm.moe.evaluate import agreement, mean_kl, perplexity
from llm.moe.export import export
from llm.moe.partition import Cut, balanced_clusters, cut
from llm.moe.profile import strengths, watch, worth
from llm.moe.recipe import Shape
from llm.moe.router import fitted, lengths, recall
from tests import tiny

TOKENS = torch.randint(320, (2, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def dense(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = tiny.config("qwen2", intermediate_size=96, tie_word_embeddings=request.param)
    return AutoModelForCausalLM.from_config(config).eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(TOKENS).logits.flatten(0, 1)
    return out


SHAPE = Shape(shared=32, experts=8, top_k=3)
SPOKEN = torch.arange(40) % 4 != 0


def carved(dense: Any, shape: Shape = SHAPE) -> list[Carved]:
    return carve(dense, [(row, SPOKEN) for row in TOKENS], shape)


def exported(dense: Any, directory: Path, top_k: int) -> tuple[Any, list[Carved]]:
    layers = carved(dense, Shape(32, 8, top_k))
    return export(dense, recipe(layers, top_k), directory), layers


def test_what_is_watched_is_what_the_blocks_do(dense: Any) -> None:
    outputs: list[Tensor] = []
    block = dense.model.layers[1].mlp
    handle = block.register_forward_hook(lambda _, __, output: outputs.append(output))
    with watch(dense) as seen, torch.no_grad():
        dense(TOKENS)
        dense(TOKENS[:1])
    handle.remove()
    dense(TOKENS)
    assert [one.inputs.shape for one in seen] == [(120, 64), (120, 64)]
    assert [one.inner.shape for one in seen] == [(120, 96), (120, 96)]
    with torch.no_grad():
        wanted = torch.cat([output.flatten(0, 1) for output in outputs[:2]])
        torch.testing.assert_close(block(seen[1].inputs), wanted)
        torch.testing.assert_close(block.down_proj(seen[1].inner), wanted)
    assert seen[0].importance.abs().max() == 0


def test_importance_is_what_a_neuron_matters_to_the_loss(dense: Any) -> None:
    """Against taking the neuron away, for one that does little: there the first order is all."""
    down = dense.model.layers[1].mlp.down_proj.weight

    def loss() -> Tensor:
        made: Tensor = dense(TOKENS[:1], labels=TOKENS[:1]).loss
        return made

    with torch.no_grad():
        down[:, 5] *= 1e-2
    with watch(dense) as seen:
        before = loss()
        before.backward()
    signed = (seen[1].active[0].grad * seen[1].active[0]).sum(dim=(0, 1)).detach()
    with torch.no_grad():
        down[:, 5] = 0
        assert float(before - loss()) == pytest.approx(float(signed[5]), rel=0.05)
    assert seen[1].importance.shape == (40, 96)
    assert float(seen[1].importance[:, 5].sum()) >= abs(float(signed[5]))


def test_strengths_are_the_lengths_of_what_neurons_add(dense: Any) -> None:
    block = dense.model.layers[0].mlp
    hidden = torch.randn(5, 64)
    with torch.no_grad():
        inner = silu(block.gate_proj(hidden)) * block.up_proj(hidden)
        strength = strengths(inner, block.down_proj.weight)
        for neuron in (0, 95):
            only = torch.zeros(96)
            only[neuron] = 1
            wanted = block.down_proj(inner * only).norm(dim=1)
            torch.testing.assert_close(strength[:, neuron], wanted)


def test_worth_counts_what_a_neuron_adds_and_what_it_matters() -> None:
    strength = torch.tensor([[3.0, 0.0, 1.0], [4.0, 1.0, 1.0]])
    importance = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    adds = torch.tensor([12.5, 0.5, 1.0]).sqrt()
    wanted = adds / adds.sum() + torch.tensor([0.0, 2 / 3, 1 / 3])
    torch.testing.assert_close(worth(strength, importance), wanted)


def test_neurons_used_together_come_together() -> None:
    """Four kinds of tokens, each with neurons of its own, and three neurons that all use."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(4, (400,), generator=generator)
    owner = torch.cat([torch.arange(4).repeat(6), torch.full((3,), -1)])
    owner = owner[torch.randperm(27, generator=generator)]
    noise = torch.rand(400, 27, generator=generator) < 0.02
    used = ((owner[None] == kind[:, None]) | (owner[None] == -1) ^ noise).float()
    made = cut(used, used.mean(dim=0), shared=3, experts=4)
    assert set(made.shared.tolist()) == set((owner == -1).nonzero().flatten().tolist())
    assert sorted(len(set(owner[expert].tolist())) for expert in made.routed) == [1, 1, 1, 1]
    everyone = torch.cat([made.shared, made.routed.flatten()]).sort().values
    assert everyone.tolist() == list(range(27))


def test_clusters_are_of_one_size_even_when_the_rows_are_not_so_minded() -> None:
    near = torch.tensor([1.0, 0.0]) + 0.01 * torch.arange(9)[:, None] * torch.tensor([0.0, 1.0])
    far = torch.tensor([[0.0, 1.0]])
    members = balanced_clusters(torch.cat([near, far]), 2)
    assert members.shape == (2, 5)
    assert members.flatten().sort().values.tolist() == list(range(10))
    mate_of_far = next(row for row in members.tolist() if 9 in row)
    assert mate_of_far == [5, 6, 7, 8, 9]


def test_a_cut_that_does_not_come_out_even_is_refused() -> None:
    with pytest.raises(ValueError, match="97 do not divide by 8"):
        cut(torch.ones(3, 100), torch.ones(100), shared=3, experts=8)


def test_recall() -> None:
    oracle = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 1.5, 5.0, 2.5]])
    scores = torch.tensor([[9.0, 1.0, 8.0, 0.0], [0.0, 0.0, 7.0, 6.0]])
    assert recall(oracle, oracle, 2) == 1.0
    assert recall(scores, oracle, 2) == pytest.approx((0.5 + 1.0) / 2)


def test_a_fitted_router_finds_the_expert_whose_neurons_open() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 64, generator=generator)
    gate = centres.repeat_interleave(8, 0) + 0.5 * torch.randn(32, 64, generator=generator)
    made = Cut(torch.empty(0, dtype=torch.long), torch.arange(32).reshape(4, 8))
    hidden = centres[torch.randint(4, (400,), generator=generator)]
    hidden = hidden + torch.randn(400, 64, generator=generator)
    adds = lengths(silu(hidden @ gate.T), torch.randn(16, 32, generator=generator), made)
    assert adds.shape == (400, 4)
    router = fitted(hidden[:200], adds[:200])
    assert recall(hidden[200:] @ router.T, adds[200:], 1) > 0.9


def test_with_all_experts_active_a_cut_model_says_what_the_dense_one_does(
    dense: Any, tmp_path: Path
) -> None:
    model, _ = exported(dense, tmp_path, top_k=8)
    loaded = Qwen2MoeForCausalLM.from_pretrained(tmp_path).eval()
    wanted = logits(dense)
    for made in (model, loaded):
        # The routed weights are 1/8 to a part in a thousand.
        assert (logits(made) - wanted).abs().max() < 2e-3 * wanted.abs().max()
        assert mean_kl(wanted, logits(made)) < 1e-5
        assert agreement(wanted, logits(made)) > 0.98
    output, embedding = loaded.lm_head.weight, loaded.model.embed_tokens.weight
    assert output.data_ptr() != embedding.data_ptr()


def test_with_few_experts_active_the_chosen_ones_are_added_in_full(
    dense: Any, tmp_path: Path
) -> None:
    """The exported block against its definition: shared neurons, and those of the experts that
    the unscaled router likes best."""
    model, layers = exported(dense, tmp_path, top_k=3)
    block, made, moe = dense.model.layers[0].mlp, layers[0].cut, model.model.layers[0].mlp
    hidden = torch.randn(20, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        gate, up = block.gate_proj.weight, block.up_proj.weight
        inner = silu(linear(hidden, gate)) * linear(hidden, up)
        chosen = (hidden @ layers[0].router.T).topk(3, dim=1).indices
        active = torch.zeros_like(inner)
        active[:, made.shared] = 1
        for token, experts in enumerate(chosen):
            active[token, made.routed[experts].flatten()] = 1
        wanted = block.down_proj(inner * active)
        got = moe(hidden[None])[0]
    assert (got - wanted).abs().max() < 2e-3 * wanted.abs().max()
    assert mean_kl(logits(dense), logits(model)) > 1e-4


def test_a_level_router_keeps_its_order() -> None:
    router, hidden = torch.randn(8, 64), torch.randn(50, 64)
    made = hidden @ level(router, hidden).T
    assert torch.equal(made.argsort(dim=1), (hidden @ router.T).argsort(dim=1))
    assert float((made.amax(1) - made.amin(1)).mean()) == pytest.approx(1)


def test_cuts_that_cannot_be_exported_are_refused(dense: Any, tmp_path: Path) -> None:
    six = carved(dense, Shape(36, 6, 2))
    with pytest.raises(ValueError, match="power of two as the number of experts, got 6"):
        export(dense, recipe(six, 2), tmp_path)
    eight = carved(dense, Shape(32, 8, 2))
    with pytest.raises(ValueError, match="cuts of one shape"):
        recipe([six[0], eight[1]], 2)


def test_carving_says_how_well_it_went(dense: Any) -> None:
    few, all_chosen = carved(dense, Shape(32, 8, 2)), carved(dense, Shape(32, 8, 8))
    assert len(few) == 2
    for layer, whole in zip(few, all_chosen, strict=True):
        assert layer.router.shape == (8, 64)
        assert layer.worth.shape == (96,)
        assert layer.worth[layer.cut.shared].min() >= layer.worth[layer.cut.routed.flatten()].max()
        assert 0 < layer.recall < 1
        assert 0.05 < layer.lost < 0.9
        assert (whole.recall, whole.lost) == (1, 0)


def test_measures_against_what_can_be_reckoned_by_hand() -> None:
    teacher = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    student = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log() + 3
    assert mean_kl(teacher, student) == pytest.approx(0.5 * 0.5 * torch.tensor(3.0).log().item())
    assert mean_kl(teacher, teacher + 1) == pytest.approx(0, abs=1e-6)
    assert agreement(teacher[:1], student[:1]) == 0
    assert agreement(teacher, teacher) == 1
    tokens = torch.tensor([0, 1, 0])
    likely = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]).log()
    assert perplexity(likely, tokens) == pytest.approx((4 * 2) ** 0.5)
