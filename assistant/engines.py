"""The five stages of a call, built from the config and run on small executors of their own."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from assistant import models
from assistant.config import Config
from assistant.metrics import clock
from assistant.packages import ModelError
from assistant.pictures import PictureReader
from llm.interfaces import Engine, LanguageModelError, Message, Prompt
from speech.interfaces import (
    FRAME,
    RATE,
    Endpointer,
    Recognizer,
    SpeechError,
    Synthesizer,
    Vad,
)
from speech.tts import measure

T = TypeVar("T")
Stage = Literal["endpoint", "asr", "tts", "ocr"]
Progress = Callable[[str, float], None]
"""Told what is being loaded, and how much of everything is done, in [0, 1]."""

_log = logging.getLogger(__name__)

ENGINES = {
    "vad": {"silero": "speech.vad:SileroVad"},
    "endpoint": {"smart-turn": "speech.endpoint:SmartTurn"},
    "asr": {"whisper": "speech.asr:WhisperRecognizer"},
    "tts": {
        "piper": "speech.tts.piper:PiperSynthesizer",
        "kokoro": "speech.tts.kokoro:KokoroSynthesizer",
    },
    "llm": {
        "llamacpp": "llm.llamacpp:LlamaCppEngine",
        "transformers": "llm.transformers:TransformersEngine",
        "openai": "llm.openai:OpenAIEngine",
    },
    "ocr": {"rapidocr": "assistant.pictures:RapidReader"},
}
"""Stage, and the config's name for an engine, to the class. A dotted "module:Class" in the
config is taken as it is; its constructor takes what the stage's first engine here takes."""

RICH_LIMIT = 0.25
"""The real-time factor under which Kokoro speaks when the config leaves the choice to us."""


class LoadError(Exception):
    """A stage cannot be built; one line that names the stage and the reason."""


@dataclass
class Engines:
    """Everything that the calls share."""

    vad: Vad
    endpointer: Endpointer
    recognizer: Recognizer
    synthesizer: Synthesizer
    llm: Engine
    tts_name: str = ""
    """Which synthesiser speaks, as /healthz says it."""
    sees: bool = False
    """Whether the language model is given pictures."""
    reader: PictureReader | None = None
    """Reads them to one that is not."""
    spare: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of the language model's slots the one beyond those of the calls and of the HTTP API."""
    _workers: dict[str, _Worker] = field(init=False)
    _cores: asyncio.Lock = field(default_factory=asyncio.Lock)
    _answers: int = 0
    _leisure: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._workers = {stage: _Worker(stage) for stage in ("endpoint", "asr", "tts", "ocr")}
        self._leisure.set()

    async def run(self, stage: Stage, work: Callable[[], T]) -> T:
        """`work` in the stage's one thread, after what waits there already.

        Cancelling takes it out of the queue; work that has begun runs to its end unseen."""
        return await asyncio.wrap_future(self._workers[stage].submit(work))

    @asynccontextmanager
    async def undisturbed(self, patience: float | None = None) -> AsyncIterator[None]:
        """Recognition and reading ahead take turns: side by side on two cores, each takes three
        times as long. After `patience` seconds of waiting it is done side by side all the same."""
        async with AsyncExitStack() as held:
            with suppress(TimeoutError):
                await asyncio.wait_for(held.enter_async_context(self._cores), patience)
            yield

    @contextmanager
    def answering(self) -> Iterator[None]:
        """The language model writes a reply: what can wait for it does."""
        self._answers += 1
        self._leisure.clear()
        try:
            yield
        finally:
            self._answers -= 1
            if not self._answers:
                self._leisure.set()

    @asynccontextmanager
    async def leisure(self) -> AsyncIterator[None]:
        """Undisturbed, and only once no call's reply is being written."""
        while True:
            await self._leisure.wait()
            async with self.undisturbed():
                if self._leisure.is_set():
                    yield
                    return

    def busy(self, stage: Stage) -> bool:
        """Whether work of that stage runs or waits."""
        return self._workers[stage].waiting > 0

    async def aclose(self) -> None:
        await self.llm.aclose()
        for worker in self._workers.values():
            await asyncio.to_thread(worker.close)


class _Worker:
    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._unfinished: set[Future[Any]] = set()

    @property
    def waiting(self) -> int:
        return len(self._unfinished)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future = self._executor.submit(work)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


async def load_engines(config: Config, progress: Progress) -> Engines:
    """Load and warm up every stage, one after the other. Raises LoadError."""
    progress("vad", 0.0)
    vad = await _in_thread(lambda: _load_vad(config))
    progress("endpoint", 0.05)
    endpointer = await _in_thread(lambda: _load_endpointer(config))
    progress("asr", 0.1)
    recognizer = await _in_thread(lambda: load_recognizer(config))
    progress("tts", 0.3)
    name, synthesizer = await _in_thread(lambda: _choose_synthesizer(config))
    progress("llm", 0.6)
    llm = await _in_thread(lambda: load_language_model(config))
    # numpy's threads go on spinning for a tenth of a second after each product, which takes a core
    # from the language model just when a reply is waited for.
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    progress("llm", 0.9)
    await _warm_up(llm, config.call.instructions)
    progress("ready", 1.0)
    sees = config.llm.engine == "openai" and config.llm.vision
    reader = None if sees else _load_reader(config)
    return Engines(
        vad, endpointer, recognizer, synthesizer, llm, tts_name=name, sees=sees, reader=reader
    )


def load_recognizer(config: Config) -> Recognizer:
    """Blocking. Raises LoadError."""
    with _loading("asr"):
        path = models.resolve(config.asr.model)
        recognizer: Recognizer = engine_class("asr", config.asr.engine)(
            path, threads=config.asr.threads
        )
        recognizer.transcribe(np.zeros(RATE, np.float32), language=config.asr.language or "en")
    return recognizer


def load_synthesizer(config: Config) -> Synthesizer:
    """The one that the config names, or that this machine is fast enough for. Blocking.

    Raises LoadError."""
    return _choose_synthesizer(config)[1]


def load_language_model(config: Config) -> Engine:
    """With a slot for each call, one for the HTTP API, one to spare. Blocking. Raises LoadError."""
    settings, slots = config.llm, config.server.max_calls + 2
    with _loading("llm"):
        cls = engine_class("llm", settings.engine)
        if settings.engine == "openai":
            if not settings.base_url:
                raise LanguageModelError("llm.base_url: expected the server's URL, got none")
            engine: Engine = cls(
                settings.base_url, name=settings.model, api_key=str(settings.api_key), slots=slots
            )
            return engine
        path = models.resolve(settings.model)
        engine = cls(
            path,
            slots=slots,
            context=settings.context,
            threads=settings.threads,
            # A directory's name may hold dots; one in the hub's cache is named by its commit.
            name=path.stem if path.is_file() else Path(settings.model).name,
        )
    return engine


def engine_class(stage: str, name: str) -> Any:
    """The class for the config's `name`. Raises LoadError."""
    target = ENGINES[stage].get(name, name)
    module, colon, cls = target.partition(":")
    if not colon:
        known = ", ".join(ENGINES[stage])
        raise LoadError(f'{stage}.engine: expected one of {known} or "module:Class", got {name!r}')
    try:
        return getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise LoadError(f"{stage}.engine: cannot load {target}: {error}") from error


def _load_reader(config: Config) -> PictureReader | None:
    try:
        reader: PictureReader = engine_class("ocr", config.ocr.engine)(threads=config.ocr.threads)
    except ModuleNotFoundError as error:
        _log.info("no text is read in pictures: %s", error)
        return None
    return reader


def _load_vad(config: Config) -> Vad:
    with _loading("vad"):
        vad: Vad = engine_class("vad", config.vad.engine)(models.resolve(config.vad.model))
        vad.open().probability(np.zeros(FRAME, np.float32))
    return vad


def _load_endpointer(config: Config) -> Endpointer:
    settings = config.endpoint
    with _loading("endpoint"):
        path = models.resolve(settings.model)
        endpointer: Endpointer = engine_class("endpoint", settings.engine)(
            path, threads=settings.threads
        )
        endpointer.completeness(np.zeros(RATE, np.float32))
    return endpointer


def _choose_synthesizer(config: Config) -> tuple[str, Synthesizer]:
    name = config.tts.engine
    if name == "auto":
        name = _remembered_choice(config) or ""
        if not name:
            return _measured_choice(config)
    synthesizer = _load_synthesizer(config, name)
    for _ in synthesizer.synthesize("Ready."):
        pass
    return name, synthesizer


def _load_synthesizer(config: Config, name: str) -> Synthesizer:
    model = config.tts.kokoro_model if name == "kokoro" else config.tts.piper_model
    with _loading("tts"):
        synthesizer: Synthesizer = engine_class("tts", name)(
            models.resolve(model), threads=config.tts.threads
        )
    return synthesizer


def _measured_choice(config: Config) -> tuple[str, Synthesizer]:
    """Try both voices on this machine, and remember which one is to speak."""
    found: dict[str, tuple[float, Synthesizer]] = {}
    problem: LoadError | None = None
    for name in ENGINES["tts"]:
        try:
            synthesizer = _load_synthesizer(config, name)
            found[name] = measure(synthesizer, clock), synthesizer
        except (LoadError, SpeechError) as error:
            problem = LoadError(str(error))
            _log.warning("the %s voice is not available: %s", name, error)
    if not found:
        raise problem or LoadError("tts: no engine is known")
    rich = "kokoro" in found and (found["kokoro"][0] < RICH_LIMIT or "piper" not in found)
    name = "kokoro" if rich else "piper"
    factors = ", ".join(f"{n} {factor:.2f}" for n, (factor, _) in found.items())
    _log.info("%s speaks: real-time factors measured here are %s", name, factors)
    if len(found) == len(ENGINES["tts"]):
        _remember({"engine": name, "threads": config.tts.threads, "measured": factors})
    return name, found[name][1]


def _remember(choice: dict[str, object]) -> None:
    try:
        _choice_file().parent.mkdir(parents=True, exist_ok=True)
        _choice_file().write_text(json.dumps(choice))
    except OSError as error:
        _log.warning("the next start measures the voices again: %s", error)


def _remembered_choice(config: Config) -> str | None:
    try:
        choice = json.loads(_choice_file().read_text())
    except (OSError, ValueError):
        return None
    if choice.get("threads") != config.tts.threads or choice.get("engine") not in ENGINES["tts"]:
        return None
    _log.info(
        "%s speaks: real-time factors measured at first start are %s",
        choice["engine"],
        choice["measured"],
    )
    return str(choice["engine"])


def _choice_file() -> Path:
    return models.Catalogue.load().root / "tts-choice.json"


async def _warm_up(llm: Engine, instructions: str) -> None:
    """Let the model's pages come into memory, and the first call find its instructions read."""
    model = llm.open()
    try:
        await model.prefill(Prompt((Message("system", instructions), Message("user", ""))))
    except LanguageModelError as error:
        raise LoadError(f"llm: {error}") from error
    finally:
        await model.close()


@contextmanager
def _loading(stage: str) -> Iterator[None]:
    try:
        yield
    except LoadError:
        raise
    except (SpeechError, LanguageModelError, ModelError, OSError, RuntimeError) as error:
        raise LoadError(f"{stage}: {' '.join(str(error).split())}") from error


async def _in_thread(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, but an interrupted start does not wait for a half-loaded model."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # handed on to the awaiting task, whatever it is
            future.set_exception(error)
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()
    threading.Thread(target=run, daemon=True, name="load").start()
    return await asyncio.wrap_future(future)
