"""The kiosk on a sound card and a network that the test holds in its hands."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from assistant.clients.caller import demo, questions, wake_words
from assistant.clients.earcons import earcon
from assistant.clients.host import StatusCommand, Supervisor, watch_button
from assistant.clients.kiosk import Attendant, Settings
from assistant.clients.kiosk_states import Act, Patience, State
from assistant.clients.line import RATE, CallError
from assistant.clients.soundcard import BLOCK, Block, Sound
from kiosk_wake import Ear
from speech.interfaces import Pcm

FASTER = 10
"""Blocks come that much faster than from a real sound card."""


class Room:
    """A sound card whose microphone hears what `say` was given and whose loudspeaker is kept."""

    latency = 0

    def __init__(self, sound: Sound) -> None:
        self.position = 0
        self.played: list[Pcm] = []
        self.gone = False
        self._sound = sound
        self._speech = np.zeros(0, np.int16)

    def open(self) -> None: ...

    async def close(self) -> None: ...

    def say(self, pcm: Pcm) -> None:
        self._speech = np.concatenate([self._speech, pcm])

    async def said(self) -> None:
        await until(lambda: not len(self._speech), 60)

    async def block(self) -> Block:
        await asyncio.sleep(BLOCK / RATE / FASTER)
        if self.gone:
            raise CallError("the sound card stopped")
        heard, self._speech = self._speech[:BLOCK], self._speech[BLOCK:]
        self.played.append(self._sound(self.position, BLOCK))
        self.position += BLOCK
        return Block(
            np.concatenate([heard, np.zeros(BLOCK - len(heard), np.int16)]), self.played[-1]
        )

    def loud(self, since: int = 0) -> bool:
        """Whether anything was played from that sample on."""
        return any(block.any() for block in self.played[since // BLOCK :])


async def until(happened: Callable[[], bool], timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not happened():  # noqa: ASYNC110  # a sound card has no event for it
            await asyncio.sleep(0.005)


class Answering:
    """A server that answers whatever it hears with half a second of sound."""

    def __init__(self) -> None:
        self.calls = 0
        self.over = 0
        self.samples = 0
        self.kinds: list[str] = []
        self.socket: ServerConnection

    async def answer(self, call: ServerConnection) -> None:
        self.calls += 1
        self.socket = call
        await self.say("session.created", session={})
        async for raw in call:
            event = json.loads(raw)
            self.kinds.append(event["type"])
            if event["type"] == "input_audio_buffer.append":
                self.samples += len(event["audio"]) * 3 // 8
        self.over += 1

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))


@asynccontextmanager
async def kiosk(
    server: Answering | None = None, **settings: object
) -> AsyncIterator[tuple[Attendant, Room]]:
    """A kiosk with its server, or with one that nobody answers at."""
    rooms: list[Room] = []

    def card(sound: Sound) -> Room:
        rooms.append(Room(sound))
        return rooms[0]

    async with serve((server or Answering()).answer, "127.0.0.1", 0) as serving:
        port = serving.sockets[0].getsockname()[1] if server else 1
        chosen = {"button": "key", "wake_word": "", "patience": Patience(3, 4, 30)} | settings
        attendant = Attendant(Settings(f"http://127.0.0.1:{port}", **chosen), card)  # type: ignore[arg-type]  # as given
        running = asyncio.create_task(attendant.run())
        yield attendant, rooms[0]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_call_by_the_button_ends_in_silence() -> None:
    server = Answering()
    async with kiosk(server) as (attendant, room):
        attendant._typed("x")
        assert attendant.kiosk.state is State.ASLEEP
        attendant._typed("\n")
        await until(lambda: server.samples > RATE // 2)
        assert room.loud(), "the earcon"
        await server.say("input_audio_buffer.speech_started", item_id="u")
        await until(lambda: attendant.kiosk.state is State.BUSY)
        began = room.position
        audio = "/38=" * 2
        await server.say("response.output_audio.delta", item_id="a", delta=audio * 3000)
        await server.say("response.done", response={"status": "completed", "output": []})
        await until(lambda: attendant.kiosk.state is State.OPEN)
        assert room.loud(began)
        await until(lambda: "conch.playback" in server.kinds)
        await until(lambda: attendant.kiosk.state is State.ASLEEP)
        assert (room.position - began) / RATE > 4, "it hung up after the silence, not before"
        await until(lambda: server.over == 1)
        heard = server.samples
        await asyncio.sleep(0.2)
        assert server.samples == heard, "asleep it says nothing"


async def test_the_callers_first_words_wait_for_the_line() -> None:
    server = Answering()
    async with kiosk(server) as (attendant, room):
        attendant._typed("\n")
        at = room.position
        await until(lambda: server.samples > 0)
        await until(lambda: room.position - at > RATE)
        behind = room.position - at - server.samples
        assert behind < RATE // 4, "nothing that was heard since the button is missing"


async def test_a_server_that_is_not_there_is_told_by_a_sound_and_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assistant.clients.kiosk._PAUSES", (0.05, 0.05))
    async with kiosk() as (attendant, room):
        attendant._typed("\n")
        await until(lambda: attendant.kiosk.state is State.ASLEEP)
        failed = earcon(Act.CHIME_FAILED)
        assert failed is not None
        await until(lambda: room.position > len(failed) + RATE)
        played = np.concatenate(room.played)
        assert played.any()
        assert played[-BLOCK:].max() == 0


async def test_a_server_that_says_farewell_lets_it_sleep() -> None:
    server = Answering()
    async with kiosk(server) as (attendant, _):
        attendant._typed("\n")
        await until(lambda: server.samples > 0)
        await server.socket.close(1001, "stopping")
        await until(lambda: attendant.kiosk.state is State.ASLEEP)
        attendant._typed("\n")
        await until(lambda: server.calls == 2)


async def test_a_sound_card_that_is_gone_ends_it() -> None:
    rooms: list[Room] = []
    attendant = Attendant(
        Settings("http://127.0.0.1:1", wake_word=""),
        lambda sound: rooms.append(Room(sound)) or rooms[0],
    )
    running = asyncio.create_task(attendant.run())
    await until(lambda: bool(rooms and rooms[0].position))
    rooms[0].gone = True
    with pytest.raises(CallError, match="the sound card stopped"):
        await running


def test_an_unknown_wake_word_is_named_with_the_known_ones() -> None:
    with pytest.raises(CallError, match=r"hey_jarvis.*got 'hey siri'"):
        Attendant(Settings("http://127.0.0.1:1", wake_word="hey siri"), Room)


async def test_nothing_leaves_it_before_its_word_and_the_word_opens_the_line() -> None:
    server = Answering()
    async with kiosk(server, wake_word="hey jarvis", button="") as (attendant, room):
        for line in questions()[:4]:
            room.say(line.audio())
        await room.said()
        assert (server.calls, attendant.kiosk.state) == (0, State.ASLEEP)
        room.say(np.concatenate([np.zeros(RATE, np.int16), wake_words()[0].audio()]))
        await until(lambda: server.samples > 0)
        assert server.calls == 1


def test_it_wakes_on_its_word_in_four_voices_and_on_nothing_else_that_is_said() -> None:
    ear = Ear("hey jarvis")
    assert len({line.voice for line in wake_words()}) == 4
    assert [line.voice for line in wake_words() if ear.wakes(line.audio()) != 1] == []
    others = [*questions()[1::2], *demo().values()]
    assert [line.path.name for line in others if ear.wakes(line.audio())] == []


# --- the machine it runs on -------------------------------------------------------------------


def test_it_imports_no_torch_and_no_server_model() -> None:
    heavy = {"torch", "onnxruntime", "ctranslate2", "faster_whisper", "xllamacpp", "transformers",
             "starlette", "llm", "assistant.server", "assistant.engines"}  # fmt: skip
    code = (
        "import sys, assistant.clients.kiosk, assistant.cli;"
        f"sys.exit(', '.join({heavy!r} & {{*sys.modules}}) or 0)"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_the_status_command_is_told_the_latest_state_and_holds_nothing_up(
    tmp_path: Path,
) -> None:
    script, told = tmp_path / "light.sh", tmp_path / "told"
    script.write_text(f'sleep 0.2; echo "$1 $2" >> {told}\n')
    status = StatusCommand(f"sh {script} led")
    running = asyncio.create_task(status.run())
    loop = asyncio.get_running_loop()
    began = loop.time()
    for state in ("asleep", "listening", "busy", "open"):
        status.tell(state)
        await asyncio.sleep(0.01)
    assert loop.time() - began < 0.15
    await until(lambda: told.exists() and "open" in told.read_text())
    assert told.read_text().splitlines() == ["led asleep", "led open"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_status_command_that_is_not_there_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = StatusCommand("/nowhere/light")
    running = asyncio.create_task(status.run())
    status.tell("asleep")
    await until(lambda: "/nowhere/light: No such file" in caplog.text)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_each_line_of_the_buttons_command_is_a_press() -> None:
    presses: list[None] = []
    command = "sh -c 'echo rising; echo rising; sleep 60; true'"
    watching = asyncio.create_task(watch_button(command, lambda: presses.append(None)))
    await until(lambda: len(presses) == 2)
    watching.cancel()
    async with asyncio.timeout(5):  # nor do the command's own children hold it up
        await asyncio.gather(watching, return_exceptions=True)


def test_the_supervisor_is_told_that_it_lives_twice_in_the_time_it_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        supervisor = Supervisor()
        supervisor.ready()
        for now in range(12):
            supervisor.alive(now)
        supervisor.status("asleep")
        told = [systemd.recv(99).decode() for _ in range(5)]
    assert told == ["READY=1", *["WATCHDOG=1"] * 3, "STATUS=asleep"]
