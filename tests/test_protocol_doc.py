"""docs/protocol.md names every event and every code there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from assistant import conversation, requests
from assistant.wire import realtime, response, schema, settings

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs/protocol.md").read_text()


def section(title: str) -> str:
    return DOC.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([a-z_]+\.[a-z_.]+|error)`", " ".join(rows)))


def source(*modules: object) -> str:
    return "".join(Path(str(module.__file__)).read_text() for module in modules)  # type: ignore[attr-defined]


def test_every_client_event() -> None:
    table = section("Client events").partition("### ")[0]
    assert first_cells(table) == set(realtime._TYPES)


def test_every_server_event() -> None:
    made = set(re.findall(r'"type": "([a-z_.]+)"', source(realtime)))
    made |= {realtime._TRANSCRIPTION + end for end in (".delta", ".completed", ".failed")}
    made -= {"duration", "transcription_error"}
    text = source(response).replace('f"{arguments}', '"function_call_arguments')
    names = re.findall(r'_(?:event|in_part)\(\s*"([a-z_.]+)"', text)
    made |= {"response.created", "response.done", *(f"response.{name}" for name in names)}
    assert first_cells(section("Server events")) == made


def test_every_code_of_a_bad_event() -> None:
    text = source(realtime, schema, settings, conversation, requests)
    used = set(re.findall(r'code(?:: str)? ?= ?"([a-z_]+)"', text))
    used |= set(requests._REFUSALS)
    used |= set(re.findall(r'"(item_[a-z]+_invalid_[a-z_]+)"', text))
    table = [line for line in section("Bad input").splitlines() if line.startswith("|")]
    codes = {name for line in table[2:] for name in re.findall(r"`([a-z_]+)`", line.split("|")[2])}
    assert codes == used
