"""The catalogue's models that are made here of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.models import Catalogue, ModelError
from llm.moe.build import build
from llm.moe.grown import learned
from llm.moe.recipe import read, save
from tests import tiny
from tests.test_models import Registry, sha
from tests.test_moe_grown import dense as dense_model  # noqa: F401  # a fixture
from tests.test_moe_grown import taught

BUILT = """
default = ["mixture"]
[aliases]
[models.mixture]
description = "made of another"
licence = "MIT"
path = "mixture.gguf"
built = {{ dense = "dense", recipe = "recipe.npz", sha256 = "{recipe}", size = {size} }}
[models.dense]
description = "a dense model"
licence = "MIT"
path = "dense.gguf"
[[models.dense.files]]
name = "dense.gguf"
size = {dense_size}
sha256 = "{dense}"
package = "dense==1.0"
member = "dense.gguf"
"""


def test_the_catalogue_makes_a_mixture_of_its_dense_model(
    dense_model: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny.write_gguf(dense_model, tmp_path / "dense.gguf")
    save(learned(taught(dense_model, steps=1)), tmp_path / "recipe.npz")
    dense, made = (tmp_path / "dense.gguf").read_bytes(), read(tmp_path / "recipe.npz")
    monkeypatch.setattr("llm.moe.recipe.RECIPES", tmp_path)
    build(tmp_path / "dense.gguf", made, tmp_path / "wanted.gguf", name="mixture")
    wanted, recipe = (tmp_path / name for name in ("wanted.gguf", "recipe.npz"))

    def catalogue(sha256: str) -> Catalogue:
        (tmp_path / "built.toml").write_text(
            BUILT.format(
                recipe=sha256, size=wanted.stat().st_size, dense=sha(dense), dense_size=len(dense)
            )
        )
        return Catalogue.load(tmp_path / "built.toml", tmp_path / "cache")

    registry, shown = Registry(dense={"dense.gguf": dense}), list[tuple[str, int, int]]()
    with pytest.raises(ModelError, match="recipe.npz: expected sha256 00, got"):
        catalogue("00").fetch(["mixture"], download=registry)
    mixtures = catalogue(sha(recipe.read_bytes()))
    assert not mixtures.present("mixture")
    mixtures.fetch(["mixture"], lambda *args: shown.append(args), registry)
    assert mixtures.locate("mixture").read_bytes() == wanted.read_bytes()
    assert registry.asked == ["dense==1.0"], "the dense model was there already"
    assert shown[-1] == ("mixture", wanted.stat().st_size, wanted.stat().st_size)
    assert not catalogue("01").present("mixture"), "another recipe makes another model"
