"""Everything below this directory runs real models: `pytest -m real`."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this directory's tests; the hook is handed those of the whole run."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session", autouse=True)
def _same_voice_each_time() -> None:
    """Piper draws its rhythm by chance, and a sentence in some hundred is then misheard: of one
    draw the same is always heard. Servers in processes of their own have tests/seeded.py."""
    onnxruntime.set_seed(0)
