"""Engines that take no time of their own and whose speech can be read back exactly.

A word is a plateau of constant level in the audio: of a tone, another for each utterance, so that
caller and assistant are as unlike as two voices are. What a fake caller says, the fake recogniser
reads; what the fake synthesiser says, a test reads from the delivered samples. So tests can
check that no word was lost, doubled or moved, through the whole real path between them.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from assistant.pictures import PictureError
from llm.interfaces import (
    Finished,
    LanguageModelError,
    NoFreeSlot,
    Prompt,
    ReplyPart,
    Sampling,
    TextDelta,
)
from speech.interfaces import RATE, Audio, Mark, Pcm, Speech, SpeechError, Transcript, Voice

T = TypeVar("T")

WORD, GAP = 0.2, 0.05
"""Seconds of a word and of the voiced gap after it."""
_GAP_LEVEL, _FIRST_LEVEL, _STEP = 0.02, 0.1, 0.02


class Code:
    """Which level stands for which word; words get their level when first used."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}
        self._utterances = 0

    def audio(self, text: str, rate: int) -> Audio:
        """`text` spoken, shape (n,) at `rate` Hz."""
        gap = np.full(int(GAP * rate), _GAP_LEVEL, np.float32)
        parts = [gap]
        for word in re.findall(r"[\w'-]+", text.lower()):
            index = self._levels.setdefault(word, len(self._levels) % 40)
            parts += [np.full(int(WORD * rate), _FIRST_LEVEL + _STEP * index, np.float32), gap]
        if len(parts) == 1:
            return np.empty(0, np.float32)
        levels = np.concatenate(parts)
        self._utterances += 1
        hertz = 300 + 100 * (self._utterances * 7 % 25)  # whole periods in each step of text()
        tone = np.sin(2 * np.pi * hertz / rate * np.arange(len(levels))).astype(np.float32)
        return levels * tone

    def text(self, audio: Audio, rate: int) -> str:
        """The words of which at least half is in `audio`."""
        step = rate // 100
        whole = audio[: len(audio) - len(audio) % step].reshape(-1, step)
        levels = np.sqrt(2 * np.mean(whole**2, axis=1))
        indices = np.where(
            levels > _FIRST_LEVEL / 2, np.rint((levels - _FIRST_LEVEL) / _STEP), -1
        ).astype(int)
        words = {index: word for word, index in self._levels.items()}
        found, run = [], 0
        for at, index in enumerate(indices):
            run = run + 1 if at and index == indices[at - 1] else 1
            if index >= 0 and run == int(WORD * 50):
                found.append(words.get(int(index), "?"))
        return " ".join(found)


class FakeVad:
    def open(self) -> FakeVad:
        return self

    def probability(self, frame: Audio) -> float:
        return 0.99 if float(np.abs(frame).max()) > _GAP_LEVEL / 2 else 0.01


@dataclass
class FakeEndpointer:
    """Complete unless the caller's last word is one of `unfinished`."""

    code: Code
    unfinished: tuple[str, ...] = ("and", "the", "to")

    def completeness(self, audio: Audio) -> float:
        words = self.code.text(audio, RATE).split()
        return 0.1 if words and words[-1] in self.unfinished else 0.99


@dataclass
class FakeRecognizer:
    code: Code
    broken: bool = False
    decodes: int = 0

    def transcribe(
        self, audio: Audio, *, language: str = "", context: str = "", word_times: bool = False
    ) -> Transcript:
        del context, word_times
        self.decodes += 1
        if self.broken:
            raise SpeechError("the recogniser is out of order")
        if len(audio) > 30 * RATE:
            raise SpeechError(f"expected at most 30 s of audio, got {len(audio) / RATE:.1f} s")
        return Transcript(self.code.text(audio, RATE), language or "en")


@dataclass
class FakeSynthesizer:
    code: Code
    sample_rate: int = 24_000
    broken: bool = False
    voices: tuple[Voice, ...] = (Voice("fake", "en-US", "female"),)

    def synthesize(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[Speech]:
        del voice, speed
        if self.broken:
            raise SpeechError("the synthesiser is out of order")
        audio = self.code.audio(text, self.sample_rate)
        if len(audio):
            yield Speech(pcm16(audio), tuple(self._marks(text)))

    def _marks(self, text: str) -> Iterator[Mark]:
        word, gap = int(WORD * self.sample_rate), int(GAP * self.sample_rate)
        for count, match in enumerate(re.finditer(r"[\w'-]+", text), 1):
            yield Mark(match.end(), count * (word + gap))


Script = Callable[[Prompt], Iterable[ReplyPart | Exception | float]]
"""What the model answers to a prompt; a number is a time to think, an exception is raised."""


def echo(prompt: Prompt) -> Iterable[ReplyPart]:
    """Answers every turn with what was said."""
    words = f"you said {prompt.messages[-1].content}. that is all."
    yield from (TextDelta(part) for part in re.findall(r"\S+\s*", words))
    yield Finished("stop", 10, 5, 4)


@dataclass
class FakeModel:
    """One call's slot; notices when its calls overlap."""

    engine: FakeEngine
    busy: bool = False
    closed: bool = False

    async def prefill(self, prompt: Prompt) -> float | None:
        await self._use()
        try:
            self.engine.prefills.append(prompt)
            await asyncio.sleep(self.engine.reading)
            return None
        finally:
            self.busy = False

    async def reply(
        self, prompt: Prompt, sampling: Sampling | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        await self._use()
        try:
            self.engine.prompts.append(prompt)
            self.engine.samplings.append(sampling or Sampling())
            await asyncio.sleep(self.engine.first_token)
            for part in self.engine.script(prompt):
                if isinstance(part, Exception):
                    raise part
                if isinstance(part, float):
                    await asyncio.sleep(part)
                    continue
                yield part
                await asyncio.sleep(self.engine.token)
        finally:
            self.busy = False

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.engine.free += 1

    async def _use(self) -> None:
        if self.busy or self.closed:
            raise AssertionError("the language model was used twice at once, or after close")
        self.busy = True


@dataclass
class FakeEngine:
    script: Script = echo
    name: str = "fake"
    free: int = 4
    first_token: float = 0.15
    token: float = 0.03
    reading: float = 0.05
    """Seconds that one prefill takes."""
    prompts: deque[Prompt] = field(default_factory=lambda: deque(maxlen=9))
    prefills: deque[Prompt] = field(default_factory=lambda: deque(maxlen=9))
    samplings: deque[Sampling] = field(default_factory=lambda: deque(maxlen=9))

    def open(self) -> FakeModel:
        if not self.free:
            raise NoFreeSlot("all 4 slots belong to other calls")
        self.free -= 1
        return FakeModel(self)

    async def aclose(self) -> None:
        pass


def failing(prompt: Prompt) -> Iterable[ReplyPart | Exception]:
    """Says two words and breaks."""
    del prompt
    yield TextDelta("well then ")
    yield LanguageModelError("the model is out of order")


@dataclass
class FakeReader:
    """The text in a picture is its file, but for files that cannot be read."""

    def read(self, picture: bytes) -> str:
        if picture.startswith(b"bad"):
            raise PictureError("expected a whole picture, got one with: a hole")
        return picture.decode()


@dataclass
class FakeEngines:
    """All stages over one Code; `cost` seconds of the (virtual) clock for each blocking call."""

    code: Code = field(default_factory=Code)
    cost: float = 0.05
    running: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vad = FakeVad()
        self.endpointer = FakeEndpointer(self.code)
        self.recognizer = FakeRecognizer(self.code)
        self.synthesizer = FakeSynthesizer(self.code)
        self.llm = FakeEngine()
        self.sees = False
        self.reader: FakeReader | None = None
        self.spare = asyncio.Lock()

    async def run(self, stage: str, work: Callable[[], T]) -> T:
        self.running[stage] = self.running.get(stage, 0) + 1
        try:
            await asyncio.sleep(self.cost)
            return work()
        finally:
            self.running[stage] -= 1

    @asynccontextmanager
    async def undisturbed(self, patience: float | None = None) -> AsyncGenerator[None, None]:
        yield

    @contextmanager
    def answering(self) -> Iterator[None]:
        yield

    @asynccontextmanager
    async def leisure(self) -> AsyncGenerator[None, None]:
        yield

    def busy(self, stage: str) -> bool:
        return self.running.get(stage, 0) > 0

    async def aclose(self) -> None:
        pass


def pcm16(audio: Audio) -> Pcm:
    return (audio * 32767).astype(np.int16)


def message_texts(prompt: Prompt) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in prompt.messages]


Event = dict[str, Any]
