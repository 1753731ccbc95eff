"""Every event of every call that the session's tests make, under openai-agents' strict models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from agents.realtime.openai_realtime import get_server_event_type_adapter

from tests import test_asking, test_requests, test_session
from tests.calls import Client

_TOO_LONG = ("test_fifty_minutes_take_no_time_and_no_memory",)


def session_scripts() -> dict[str, Callable[[], None]]:
    """The other files' tests; of one with parameters, its first case."""
    found: dict[str, Callable[[], None]] = {}
    for module in (test_session, test_requests, test_asking):
        for name, test in vars(module).items():
            if not name.startswith("test_") or name in _TOO_LONG:
                continue
            marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
            found[name] = partial(test, **_first_case(marks[0])) if marks else test
    return found


def _first_case(mark: pytest.Mark) -> dict[str, Any]:
    names, cases = mark.args
    if isinstance(names, str):
        return {names: cases[0]}
    return dict(zip(names, cases[0], strict=True))


@pytest.mark.parametrize("script", session_scripts().values(), ids=session_scripts())
def test_every_event_validates(script: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(Client, "log", events)
    script()
    assert events
    for event in events:
        get_server_event_type_adapter().validate_json(event, strict=True)
