"""`conch call` and `conch kiosk` on a virtual sound card, their server the real one."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from rich.console import Console

from assistant.clients.caller import Line, demo, questions, wake_words
from assistant.clients.demo import server
from assistant.clients.wav import RATE
from room import Relay, Room, missing, peak_megabytes, relayed, room
from speech.interfaces import Pcm

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "a sound card is there")
ANSWER_S = 90
MEMORY_MB = 150
ECHO_DB = -10.0
UNDERSTOOD = "conversation.item.input_audio_transcription.completed"


@pytest.fixture(autouse=True)
def _small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_LLM_MODEL", "qwen2.5-coder-0.5b")
    monkeypatch.setenv("CONCH_TTS_ENGINE", "tests.seeded:Piper")


def line(name: str) -> Line:
    return next(q for q in questions() if q.name == name)


async def until(happened: Callable[[], bool], timeout: float = ANSWER_S) -> None:
    async with asyncio.timeout(timeout):
        while not happened():  # noqa: ASYNC110  # another process has no event for it
            await asyncio.sleep(0.1)


async def understood(url: str, heard: list[Pcm], folder: Path) -> str:
    """The words in what the loudspeaker played."""
    soundfile.write(folder / "heard.wav", np.concatenate(heard), RATE)
    api = re.sub(r"^ws(.*)/realtime$", r"http\1", url)
    async with httpx.AsyncClient(base_url=api, timeout=ANSWER_S) as client:
        files = {"file": ("heard.wav", (folder / "heard.wav").read_bytes())}
        answer = await client.post("/audio/transcriptions", data={"model": "-"}, files=files)
    return str(answer.json()["text"])


async def spoken_over(place: Room, relay: Relay) -> str:
    """How a story ends that the caller breaks into with a question."""
    told, done = len(relay.all("response.output_item.added")), len(relay.all("response.done"))
    await asyncio.sleep(1)
    await place.say(demo()["story"].audio())
    assert await relay.sounding(told + 1, 2.0, ANSWER_S)
    await place.say(demo()["stop"].audio())
    ended = await relay.until("response.done", done + 1, ANSWER_S)
    status: str = ended["response"]["status"]
    return status


async def test_a_call_through_the_sound_card(tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    async with server(Console(quiet=True)) as url, room(tmp_path) as place:
        async with place.client(printed, "call", "--server", url) as process:
            async with place.recording() as heard:
                await asyncio.sleep(3)
                await place.say(line("france").audio())
                await until(lambda: "conch" in printed.read_text())
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(20):
                assert await process.wait() == 0
        you, conch_line = printed.read_text().splitlines()[:2]
        assert you.startswith("you    What is the capital of France?")
        assert re.search(r"^conch  .*Paris.*\(\d+\.\d\d s\)$", conch_line)
        assert "Paris" in await understood(url, heard, tmp_path)


async def test_a_recorded_call_and_a_server_that_is_gone(tmp_path: Path) -> None:
    call = ["call", "--wav", str(line("france").path), "-o", str(tmp_path / "out.wav")]
    place, printed = Room({"PATH": ""}), tmp_path / "printed"
    async with server(Console(quiet=True)) as url:
        async with place.client(printed, *call, "--server", url) as process:
            async with asyncio.timeout(ANSWER_S):
                assert await process.wait() == 0
        assert "Paris" in printed.read_text()
        audio, rate = soundfile.read(tmp_path / "out.wav")
        assert rate == RATE
        assert np.abs(audio).max(axis=0).min() > 0.05, "both sides"
    async with place.client(printed, *call, "--server", url) as process:
        assert await process.wait() == 1
    (said,) = printed.read_text().splitlines()
    assert said.startswith(f"conch: expected a server at {url}")


async def test_a_kiosk_wakes_and_does_not_interrupt_itself_but_is_interrupted(
    tmp_path: Path,
) -> None:
    lights = tmp_path / "lights"
    async with (
        server(Console(quiet=True)) as url,
        relayed(url) as relay,
        room(tmp_path, ECHO_DB) as place,
        place.client(
            tmp_path / "printed", "kiosk", "--server", relay.url,
            "--status-command", f"sh -c 'echo $0 >> {lights}'",
        ) as process,
    ):  # fmt: skip
        await until(lights.exists)
        for other in ("week", "sky"):
            await place.say(line(other).audio())
        assert relay.calls == 0, "nothing leaves it before its word"
        await place.say(wake_words()[0].audio())
        await until(lambda: relay.audio > 0, 20)
        for number, name in enumerate(("france", "week"), 1):
            await asyncio.sleep(1)
            await place.say(line(name).audio())
            await relay.until("response.done", number, ANSWER_S)
            await until(lambda: lights.read_text().split()[-1] == "open")
        assert [done["response"]["status"] for done in relay.all("response.done")] == [
            "completed"
        ] * 2
        assert len(relay.all("input_audio_buffer.speech_started")) == 2, "never of itself"
        assert peak_megabytes(process) < MEMORY_MB * 0.8
        # Nine of ten who speak over an echo are heard (docs/turn-taking.md): one may try again.
        if await spoken_over(place, relay) == "completed":
            await until(lambda: lights.read_text().split()[-1] == "open")
            assert await spoken_over(place, relay) == "cancelled"
        await until(lambda: "months" in relay.all(UNDERSTOOD)[-1]["transcript"])
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert lights.read_text().split()[:4] == ["asleep", "listening", "busy", "open"]
