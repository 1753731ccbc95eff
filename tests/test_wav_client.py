"""The recorded caller: its loudspeaker, its clock, and a call with a scripted server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve

from assistant.clients.caller import demo, questions
from assistant.clients.timeline import save, turns
from assistant.clients.wav import RATE, CallError, Loudspeaker, WavCaller, load

LOUD = np.full(2 * RATE, 9000, np.int16)


def test_the_loudspeaker_queues_what_comes_early_and_notes_what_comes_late() -> None:
    speaker = Loudspeaker()
    speaker.play("a", np.ones(100, np.int16), now=1000)
    speaker.play("a", np.ones(100, np.int16), now=1010)
    assert [p.start for p in speaker.played] == [1000, 1100]
    assert speaker.gaps == []
    speaker.play("a", np.ones(100, np.int16), now=1300)
    assert speaker.gaps == [(1200 / RATE, 100 / RATE)]
    speaker.play("b", np.ones(100, np.int16), now=5000)
    assert len(speaker.gaps) == 1, "silence between replies is no gap"


def test_a_flush_keeps_what_was_played_of_the_item() -> None:
    speaker = Loudspeaker()
    speaker.play("a", np.ones(100, np.int16), now=0)
    speaker.play("a", np.ones(100, np.int16), now=0)
    assert [speaker.heard("a", now) for now in (-5, 60, 150, 999)] == [0, 60, 150, 200]
    assert speaker.flush(150) == ("a", 150)
    assert speaker.heard("a", 999) == 150
    assert speaker.end == 150
    assert speaker.flush(160) is None


async def answer(socket: ServerConnection) -> None:
    """One reply to the first sound, cut off at once; then what was heard, on request."""

    async def send(kind: str, **fields: object) -> None:
        await socket.send(json.dumps({"type": kind, **fields}))

    await send("session.created", session={})
    replied = False
    async for raw in socket:
        event = json.loads(raw)
        match event["type"]:
            case "session.update":
                await send("session.updated", session=event["session"])
            case "input_audio_buffer.append" if not replied:
                if not any(base64.b64decode(event["audio"])):
                    continue
                replied = True
                audio = base64.b64encode(LOUD.astype("<i2").tobytes()).decode()
                await send("conversation.item.input_audio_transcription.completed", transcript="Hi")
                await send("response.output_audio.delta", item_id="r1", delta=audio)
                await send(
                    "response.output_audio_transcript.done", item_id="r1", transcript="Yo ho"
                )
                await asyncio.sleep(0.02)  # so that something of it is heard
                await send("input_audio_buffer.speech_started")
            case "conversation.item.truncate":
                assert event["audio_end_ms"] < 1900
                await send(
                    "response.done",
                    response={"status": "cancelled", "output": [{"id": "r1"}]},
                    conch={"timing_ms": {"tts": 40}},
                )
            case "conversation.item.retrieve":
                item = {"id": "r1", "content": [{"type": "output_audio", "transcript": "Yo"}]}
                await send("conversation.item.retrieved", item=item)
            case "bye":
                return


@asynccontextmanager
async def scripted() -> AsyncIterator[str]:
    async with serve(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"


async def test_a_call_is_recorded_with_its_turns_and_times(tmp_path: Path) -> None:
    async with scripted() as url, WavCaller(url) as caller:
        utterance = caller.say(np.concatenate([LOUD[:480], np.zeros(4800, np.int16)]))
        await caller.wait_for("response.done", 10)
        await utterance.said.wait()
        found = await turns(caller)
        with pytest.raises(CallError, match="expected response.done within"):
            await caller.wait_for("response.done", 0.01)
        await caller.send({"type": "bye"})
        with pytest.raises(CallError, match="expected response.created, but the call ended"):
            await caller.wait_for("response.created", 10)
    assert utterance.end == pytest.approx(utterance.start + 0.02)
    (turn,) = found
    assert (turn.caller, turn.reply, turn.heard, turn.status) == ("Hi", "Yo ho", "Yo", "cancelled")
    assert turn.timing_ms == {"tts": 40}
    assert turn.latency is not None
    assert 0 <= turn.latency < 2
    assert turn.played < 1.9, "the rest was flushed"
    save(caller, found, tmp_path / "call.wav", tmp_path / "call.json")
    audio, rate = soundfile.read(tmp_path / "call.wav")
    assert (rate, audio.shape[1]) == (RATE, 2)
    document = json.loads((tmp_path / "call.json").read_text())
    assert document["turns"][0]["latency"] == turn.latency
    assert document["utterances"] == [{"start": utterance.start, "end": utterance.end}]


def test_every_line_of_the_recorded_callers_is_there() -> None:
    lines = [*questions(), *demo().values()]
    assert len({line.name for line in questions()}) >= 10
    assert len({line.voice for line in questions()}) >= 3
    assert all(0.5 < soundfile.info(line.path).duration < 10 for line in lines)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="nothing.wav"):
        load(tmp_path / "nothing.wav")


async def test_no_server_is_a_call_error() -> None:
    with pytest.raises(CallError, match="expected a server at ws://127.0.0.1:1/"):
        await WavCaller("ws://127.0.0.1:1/").__aenter__()


def test_the_loudspeaker_can_be_heard_in_the_room() -> None:
    speaker = Loudspeaker()
    speaker.play("a", np.arange(1, 101, dtype=np.int16), now=1000)
    speaker.play("a", np.arange(101, 201, dtype=np.int16), now=1000)
    assert speaker.sound(990, 20).tolist() == [0] * 10 + list(range(1, 11))
    assert speaker.sound(1095, 10).tolist() == list(range(96, 106))
    assert speaker.sound(1195, 10).tolist() == [196, 197, 198, 199, 200, 0, 0, 0, 0, 0]
    speaker.flush(1050)
    assert speaker.sound(1045, 10).tolist() == [46, 47, 48, 49, 50, 0, 0, 0, 0, 0]
    assert speaker.cuts == [(1050 / RATE, "a")]


async def test_the_microphone_hears_the_room_too() -> None:
    async with scripted() as url, WavCaller(url) as caller:
        caller.around.append(lambda at, count: np.full(count, 7 if at < RATE else 0, np.int16))
        await caller.say(LOUD[:480]).said.wait()
        assert await caller.until(lambda: bool(caller.speaker.played), 10)
        assert not await caller.until(lambda: False, 0.01)
        left = caller.recording()[:, 0]
    assert {7, 9007} <= set(left.tolist()) <= {0, 7, 9007}
