"""A scripted client on the other end of a Session, in virtual time, and calls that it holds."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec
import numpy as np

from assistant.config import Config
from assistant.session import Session
from llm.interfaces import Finished, Prompt, TextDelta
from speech.audio import to_float, ulaw_encode
from speech.interfaces import Audio
from tests.fakes import Event, FakeEngines, pcm16
from tests.virtual import run

RATE = 24_000
AUDIO = "response.output_audio.delta"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class Client:
    """Sends events and audio, keeps what comes back with the time at which it came."""

    log: ClassVar[list[str] | None] = None
    """Where every client writes what it is sent, as JSON, when a test wants to see all of it."""

    def __init__(
        self,
        engines: FakeEngines | None = None,
        config: Config | None = None,
        extensions: frozenset[str] = frozenset(),
    ) -> None:
        self.engines = engines or FakeEngines()
        self.events: list[tuple[float, Event]] = []
        self.closed: tuple[int, str] | None = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.g711 = False
        """Speak as a telephone does: mu-law at 8 kHz."""
        self.chunk = 0.1
        """Seconds of audio in one append."""
        self._loop = asyncio.get_running_loop()
        self._incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.session = Session(self, self.engines, config or Config(), extensions=extensions)  # type: ignore[arg-type]  # a structural stand-in
        self._running = asyncio.create_task(self.session.run())

    # --- the transport that the session sees ----------------------------------------------

    async def receive(self) -> str | bytes | None:
        return await self._incoming.get()

    async def send(self, text: str) -> None:
        await self.reading.wait()
        if Client.log is not None:
            Client.log.append(text)
        self.events.append((self._loop.time(), msgspec.json.decode(text)))

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    # --- what a test does -----------------------------------------------------------------

    def tell(self, kind: str, **fields: Any) -> None:
        self._incoming.put_nowait(msgspec.json.encode({"type": kind, **fields}))

    def raw(self, message: str | bytes) -> None:
        self._incoming.put_nowait(message)

    def configure(self, **audio_input: Any) -> None:
        self.tell("session.update", session={"type": "realtime", "audio": {"input": audio_input}})

    async def play(self, audio: Audio) -> None:
        """Send audio of shape (n,) at RATE in real time."""
        step = int(self.chunk * RATE)
        for at in range(0, len(audio), step):
            pcm = pcm16(audio[at : at + step])
            self.append(ulaw_encode(pcm[::3].copy()) if self.g711 else pcm.tobytes())
            await asyncio.sleep(self.chunk)

    def append(self, data: bytes) -> None:
        self.tell("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    async def say(self, text: str) -> None:
        await self.play(self.engines.code.audio(text, RATE))

    async def quiet(self, seconds: float) -> None:
        await self.play(np.zeros(int(seconds * RATE), np.float32))

    async def until(self, kind: str, count: int = 1, timeout: float = 60) -> Event:
        """The `count`-th event of this kind, silence flowing meanwhile."""
        end = self._loop.time() + timeout
        while len(found := self.all(kind)) < count:
            if self._loop.time() > end:
                raise AssertionError(f"no {kind} number {count}; got {self.kinds()}")
            await self.quiet(self.chunk)
        return found[count - 1]

    async def hang_up(self) -> None:
        self._incoming.put_nowait(None)
        await self._running

    # --- what came back -------------------------------------------------------------------

    def all(self, kind: str) -> list[Event]:
        return [event for _, event in self.events if event["type"] == kind]

    def kinds(self) -> list[str]:
        return [event["type"] for _, event in self.events]

    def when(self, kind: str, count: int = 1) -> float:
        return [at for at, event in self.events if event["type"] == kind][count - 1]

    def heard(self, item_id: str = "") -> str:
        """The words in the delivered audio."""
        deltas = [
            base64.b64decode(event["delta"])
            for event in self.all("response.output_audio.delta")
            if not item_id or event["item_id"] == item_id
        ]
        pcm = np.frombuffer(b"".join(deltas), np.int16)
        return self.engines.code.text(to_float(pcm), RATE)


def call(script: Callable[[Client], Awaitable[None]], **kwargs: object) -> Client:
    """Run `script` as the client of one call; the call must end clean."""

    async def whole() -> Client:
        lost: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: lost.append(what))
        client = Client(**kwargs)  # type: ignore[arg-type]
        await script(client)
        await client.hang_up()
        assert client.engines.llm.free == 4, "the slot was not given back"
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        gc.collect()
        assert not lost, f"nobody saw these: {lost}"
        return client

    return run(whole())


def long_story(prompt: Prompt) -> list[Any]:
    return [*(TextDelta(f"word{n} ") for n in range(20)), TextDelta("end."), Finished("stop")]


def storyteller() -> FakeEngines:
    engines = FakeEngines()
    engines.llm.script = long_story
    return engines


def message(text: str, **fields: Any) -> Event:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


def during_a_reply(act: Callable[[Client], Awaitable[None]], **kwargs: Any) -> tuple[Client, Event]:
    """A call in which `act` happens when a second of a long reply is out; and that reply."""

    async def script(client: Client) -> None:
        await client.say("tell me a story")
        await client.until(AUDIO, 25)
        await act(client)
        await client.until("response.done")

    client = call(script, engines=kwargs.pop("engines", None) or storyteller(), **kwargs)
    done: Event = client.all("response.done")[0]["response"]
    return client, done
