"""What a call looks like in a terminal, and as plain lines where there is none."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from assistant.clients.call import Call
from assistant.clients.keys import keys
from assistant.clients.view import View


class Kept(Call):
    """A call that the test says has happened."""

    at = 0.0

    def __init__(self) -> None:
        super().__init__("ws://127.0.0.1:1")
        self.asked: list[dict[str, Any]] = []
        self.line.up = True

    @property
    def now(self) -> float:
        return self.at

    async def send(self, event: dict[str, Any]) -> None:
        self.asked.append(event)

    def happened(self, at: float, kind: str, **fields: Any) -> None:
        self.at = at
        self.events.append((at, {"type": kind, **fields}))


@pytest.fixture
def interrupted() -> Kept:
    """A question, and an answer of which a second of two was heard."""
    call = Kept()
    said = "conversation.item.input_audio_transcription"
    call.happened(1.0, "input_audio_buffer.speech_stopped", audio_end_ms=900)
    call.happened(1.2, f"{said}.completed", item_id="u", transcript="What is it?")
    for at, words in ((1.5, "It is a "), (2.4, "very old lighthouse.")):
        call.happened(at, "response.output_audio_transcript.delta", item_id="a", delta=words)
        call.happened(at, "response.output_audio.delta", item_id="a", samples=24_000)
        call.speaker.play("a", np.ones(24_000, np.int16), round(at * 24_000))
    call.happened(2.5, "input_audio_buffer.speech_started", item_id="v")
    call.speaker.flush(round(2.5 * 24_000))
    timing = {"timing_ms": {"asr": 50, "tts": 70}}
    done = {"status": "cancelled", "output": [{"id": "a"}]}
    call.happened(2.5, "response.done", response=done, conch=timing)
    item = {"id": "a", "content": [{"transcript": "It is a very"}]}
    call.happened(2.6, "conversation.item.retrieved", item=item)
    return call


def styled(view: View) -> Iterator[tuple[str, str]]:
    """(text, style) of every part of the captions."""
    for line in view.panel().renderable.renderables:  # type: ignore[union-attr]  # a Group
        assert isinstance(line, Text)
        for span in line.spans:
            yield line.plain[span.start : span.end], str(span.style)


async def test_unheard_words_are_struck_through_and_the_answers_time_is_shown(
    interrupted: Kept,
) -> None:
    view = View(Console(file=io.StringIO()), interrupted, "q hang up", lambda: "muted")
    for question in view._catch_up():
        await interrupted.send(question)
    parts = list(styled(view))
    assert ("It is a very", "default") in parts
    assert (" old lighthouse.", "strike") in parts
    assert ("  0.60 s", "yellow") in parts
    assert ("  (words 50, voice 70 ms)", "bright_black") in parts
    panel = view.panel()
    assert (str(panel.title), panel.subtitle) == ("  2.6 s  you speak  muted", "q hang up")
    assert interrupted.asked == [{"type": "conversation.item.retrieve", "item_id": "a"}]
    interrupted.line.up = False
    assert "no connection, trying again" in str(view.panel().title)


async def test_where_there_is_no_terminal_a_settled_turn_is_a_line(interrupted: Kept) -> None:
    out = io.StringIO()
    showing = asyncio.create_task(View(Console(file=out), interrupted).show())
    async with asyncio.timeout(10):
        while out.getvalue().count("\n") < 2:  # noqa: ASYNC110  # a screen has no event for it
            await asyncio.sleep(0.01)
    assert out.getvalue().splitlines() == [
        "you    What is it?",
        "conch  It is a very [never heard: old lighthouse.]  (0.60 s)",
    ]
    interrupted.happened(4, "response.output_text.delta", item_id="t", delta="Unfinished")
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    assert out.getvalue().splitlines()[2:] == ["conch  Unfinished"]


async def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    typed: asyncio.Queue[str] = asyncio.Queue()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with keys(typed.put_nowait):
            os.write(ours, b"m q")
            async with asyncio.timeout(10):
                assert [await typed.get() for _ in range(3)] == ["m", " ", "q"]
        os.write(ours, b"x\n")
        assert terminal.readline() == "x\n"
    os.close(ours)
