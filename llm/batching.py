"""One thread that takes the jobs of all calls forward together, a step at a time.

A step reads one chunk of one prompt, then decodes one token of every reply that has been read:
replies whose caches are plain keys and values in one pass over the weights, others one after the
other. Prompts of replies are read before those that are only read ahead; these wait until every
reply has its beginning, because someone waits for that. The beginnings of the latest calls are
kept, so that only the first call with given instructions reads them.

Tokens/s of all calls together, on one thread of a busy machine, float32, random weights:

    model                                   one call   four by turns   four in one pass
    Qwen3-MoE, 64 wide, 2 layers                 678             645               1852
    Qwen3-MoE, 512 wide, 12 layers                42              43              65-79
    Qwen2 (dense), 1024 wide, 12 layers         9-11            9-10              18-25
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import torch

from llm.interfaces import LanguageModelError
from llm.kvcache import Stack, Track
from llm.priority import give_way
from llm.streaming import Receive

_HURRY = 12
"""Tokens at the beginning of a reply that someone waits for: its first clause."""

_LOOK = 1.0
"""Seconds between two looks at whether the thread that does the jobs is still there."""
_BEGINNINGS = 4
_BEGINNING = 512
"""Tokens kept of a call that is over: its instructions."""

Choose = Callable[[torch.Tensor], int]
"""The next token from logits, [vocabulary]."""


class Read(NamedTuple):
    """Told now and then while a prompt is read, or waits."""

    cached: int
    """Of the prompt's tokens, those that were in the cache."""


@dataclass(eq=False)
class Job:
    """A prompt to be read up to its last token; with a `limit`, a reply to it as well.

    `receive` is given a Read after every chunk, and each token as an int, the stop token too."""

    track: Track
    prompt: list[int]
    receive: Receive
    limit: int = 0
    """Tokens of the reply; 0 only reads."""
    choose: Choose = field(default=lambda logits: int(logits.argmax()))
    stops: frozenset[int] = frozenset()
    made: int = 0
    """Tokens of the reply so far."""
    cached: int = 0
    unread: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    @property
    def reading(self) -> bool:
        return len(self.unread) > 1

    @property
    def hurried(self) -> bool:
        return self.limit > 0 and self.made < _HURRY


class Batcher:
    """The thread, and the model that only it uses."""

    def __init__(self, model: Any, *, chunk: int, beside: int, threads: int) -> None:
        """`chunk`: tokens of a prompt read in one step; `beside`: the same while others decode."""
        self._model = model
        self._chunk = chunk
        self._beside = beside
        self._threads = threads
        self._new: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs: list[Job] = []
        self._beginnings: list[Track] = []
        self._stack: Stack | None = None
        self._thread = threading.Thread(target=self._run, name="llm-batch", daemon=True)
        self._thread.start()

    def run(self, job: Job) -> None:
        """Do `job` beside the others; blocks until it is over. Raises LanguageModelError."""
        self._new.put(job)
        while not job.over.wait(_LOOK):
            if not self._thread.is_alive():
                raise LanguageModelError("the language model was closed")
        if isinstance(job.error, LanguageModelError):
            raise job.error
        if job.error is not None:
            raise LanguageModelError(f"the language model failed: {job.error}") from job.error

    def remember(self, track: Track) -> None:
        """Keep the beginning of a call that is over, for those that begin alike."""
        with torch.inference_mode():
            made = track.beginning(_BEGINNING)
        others = [kept for kept in self._beginnings if kept.tokens != made.tokens]
        self._beginnings = [*others, made][-_BEGINNINGS:]

    def close(self) -> None:
        """Stop all jobs, and let go of the model. Blocks for up to a step."""
        self._new.put(None)
        self._thread.join()
        self._model, self._beginnings = None, []

    def _run(self) -> None:
        give_way()
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while self._take():
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001  # such as no memory to stack caches in
                    self._stack = None
                    for job in self._jobs:
                        job.track.clear()
                    self._end(self._jobs, error)
        while not self._new.empty():
            self._jobs += filter(None, (self._new.get(),))
        self._end(self._jobs, LanguageModelError("the language model was closed"))

    def _take(self) -> bool:
        """Begin the jobs that came; waits for one when there is nothing to do. False at the end."""
        while not self._jobs or not self._new.empty():
            job = self._new.get()
            if job is None:
                return False
            self._jobs.append(job)
            try:
                job.cached = self._rewound(job)
            except Exception as error:  # noqa: BLE001  # handed to the thread that waits for the job
                job.track.clear()
                self._end([job], error)
            job.unread = job.prompt[job.cached :]
        return True

    def _rewound(self, job: Job) -> int:
        """Make what was read before of use to the job; how many tokens of its prompt that is."""
        for kept in self._beginnings:
            if kept.reach(job.prompt) > job.track.reach(job.prompt):
                job.track.follow(kept)
        return job.track.rewind(job.prompt)

    def _step(self) -> None:
        waiting = [job for job in self._jobs if job.reading or not job.limit]
        if reader := self._next_reader():
            waiting.remove(reader)
            self._end([reader] if self._read(reader) else [])
        self._decode([job for job in self._jobs if job.limit and not job.reading])
        # What waits is asked each time whether it still wants to.
        self._end([job for job in waiting if _stops(job, Read(job.cached))])

    def _next_reader(self) -> Job | None:
        """Who reads next: a reply's prompt, then what has waited longest."""
        hurry = any(job.hurried for job in self._jobs)
        readers = [job for job in self._jobs if (job.limit and job.reading)]
        if not hurry:
            readers = readers or [job for job in self._jobs if not job.limit]
        return next(iter(readers), None)

    def _read(self, job: Job) -> bool:
        """Read the next chunk of the prompt; whether the job is over."""
        decoding = any(other.limit and not other.reading for other in self._jobs)
        most = self._beside if decoding else self._chunk
        chunk = job.unread[: min(most, len(job.unread) - 1)]
        del job.unread[: len(chunk)]
        self._jobs.remove(job)
        self._jobs.append(job)
        try:
            if chunk:
                job.track.feed(self._model, chunk)
            if not job.reading:
                job.track.copy_state()
        except Exception as error:  # noqa: BLE001
            job.error = error
            return True
        return _stops(job, Read(job.cached)) or not (job.reading or job.limit)

    def _decode(self, jobs: list[Job]) -> None:
        plain = [job for job in jobs if self._stacked(job) or job.track.plain]
        together = plain if len(plain) > 1 else []
        self._restack(together)
        if self._stack is not None:
            self._decode_together(self._stack, together)
        alone = [job for job in jobs if job not in together]
        self._end([job for job in alone if self._decode_alone(job)])

    def _decode_together(self, stack: Stack, jobs: list[Job]) -> None:
        try:
            rows = stack.feed(self._model, [job.unread[0] for job in jobs])
        except Exception as error:  # noqa: BLE001
            self._stack = None
            self._end(jobs, error)
            return
        over = [_take_token(job, row) for job, row in zip(jobs, rows, strict=True)]
        self._end(list(compress(jobs, over)))

    def _decode_alone(self, job: Job) -> bool:
        try:
            logits = job.track.feed(self._model, job.unread)
        except Exception as error:  # noqa: BLE001
            job.error = error
            return True
        return _take_token(job, logits)

    def _stacked(self, job: Job) -> bool:
        return self._stack is not None and job.track in self._stack.tracks

    def _restack(self, jobs: list[Job]) -> None:
        tracks = [job.track for job in jobs]
        if self._stack is not None and self._stack.tracks != tracks:
            self._stack.part()
            self._stack = None
        if self._stack is None and tracks:
            self._stack = Stack(tracks)

    def _end(self, jobs: list[Job], error: Exception | None = None) -> None:
        if any(map(self._stacked, jobs)):
            self._restack([])
        for job in list(jobs):
            self._jobs.remove(job)
            job.error = job.error or error
            job.over.set()


def _take_token(job: Job, logits: torch.Tensor) -> bool:
    """Choose the next token and pass it on; whether the reply is over."""
    try:
        token = job.choose(logits)
    except RuntimeError as error:  # logits that are no numbers
        job.error = error
        return True
    job.unread = [token]
    job.made += 1
    return _stops(job, token) or token in job.stops or job.made == job.limit


def _stops(job: Job, chunk: Read | int) -> bool:
    try:
        return job.receive(chunk)
    except RuntimeError as error:  # the loop that was to receive it is closed
        job.error = error
        return True
