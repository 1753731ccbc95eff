from __future__ import annotations

import base64
import json

import pytest

from assistant.replay import Jammed, Replay, audio_in


def delta(item_id: str, data: bytes) -> dict[str, str]:
    payload = base64.b64encode(data).decode()
    return {"type": "response.output_audio.delta", "item_id": item_id, "delta": payload}


def test_events_are_numbered_and_come_again_as_they_were() -> None:
    replay = Replay(10_000)
    for name in "abc":
        replay.add({"type": name}, sent=replay.last)
    assert [json.loads(text)["type"] for text in replay.since(1)] == ["b", "c"]
    assert replay.since(1) == [replay.text(2), replay.text(3)]
    assert json.loads(replay.text(2))["seq"] == 2
    assert replay.since(3) == []


def test_the_oldest_go_first_and_what_was_not_sent_never() -> None:
    replay = Replay(1000)
    for _ in range(100):
        replay.add({"type": "x" * 50}, sent=replay.last)
    assert replay.last == 100
    kept = replay.last - replay.first + 1
    assert 3 <= kept <= 10
    assert replay.keeps(100)
    assert replay.keeps(replay.first - 1)
    assert not replay.keeps(replay.first - 2)
    assert not replay.keeps(101)
    for _ in range(3):
        replay.add({"type": "x" * 50}, sent=100)
    with pytest.raises(Jammed, match="over 1000 bytes"):
        replay.add({"type": "x" * 1000}, sent=100)


def test_the_audio_in_missed_events_is_that_of_the_item() -> None:
    events = [delta("one", b"abc"), {"type": "other"}, delta("two", b"xyz"), delta("one", b"de")]
    assert audio_in(map(json.dumps, events), "one") == b"abcde"
