"""What a language-model engine promises: one LanguageModel per call, with its own cache."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class LanguageModelError(Exception):
    """The engine could not answer; the message says what it was doing and what went wrong."""


class NoFreeSlot(LanguageModelError):
    """All of the engine's cache slots belong to other calls."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """A JSON object, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Only on assistant messages."""
    tool_call_id: str = ""
    """Only on tool messages: the call that this is the result of."""
    images: tuple[str, ...] = ()
    """Pictures as data URLs; only on a caller's messages, and only for a model that sees."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """JSON Schema of the arguments."""


@dataclass(frozen=True, slots=True)
class Prompt:
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """auto, none, required, or the name of the one tool to call."""


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 0.6
    max_tokens: int = 512
    varied: bool = False
    """Do not say in many of the same words what the prompt has said. Engines that cannot leave
    it."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Always the last thing a reply yields."""

    reason: Literal["stop", "length", "tool_calls"]
    input_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens, those whose keys and values were in the cache."""
    output_tokens: int = 0


ReplyPart = TextDelta | ToolCall | Finished


class LanguageModel(Protocol):
    """One call's use of an engine. Its calls follow one another; they never overlap."""

    async def prefill(self, prompt: Prompt) -> float | None:
        """Read `prompt` into the cache without generating anything.

        The last message is the caller's turn so far and may be unfinished: what follows it in
        the chat template is not read. Answers P(a sentence ends after its last word), its last
        mark left aside; None where the engine does not tell. Cancelling is safe."""

    def reply(
        self, prompt: Prompt, sampling: Sampling | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        """Generate the next assistant message. Closing the generator stops the engine within
        one token, and returns when the slot is free again. Raises LanguageModelError."""

    async def close(self) -> None:
        """Stop whatever runs and give the slot back."""


class Engine(Protocol):
    name: str
    """The model's name, as /v1/models lists it."""

    def open(self) -> LanguageModel:
        """A slot for a new call. Raises NoFreeSlot."""

    async def aclose(self) -> None:
        """Free the model's memory."""
