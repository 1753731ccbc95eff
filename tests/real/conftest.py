"""Everything below this directory runs real models: `pytest -m real`."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this directory's tests; the hook is handed those of the whole run."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
