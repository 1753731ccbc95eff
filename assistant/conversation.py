"""The conversation: its items in order, and what of them goes to the language model.

An assistant message keeps all that was generated and what was heard of it; the model is only
told what was heard. No audio is kept.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import Annotated, Any, Literal

import msgspec

from assistant.interruption import asks, echoed, stops, tells, tokens
from assistant.pictures import PictureError, content, told
from assistant.recall import Sentence, recalled, sentences
from assistant.window import Window
from assistant.wire.errors import WireError
from assistant.wire.realtime import audio_bytes, new_id
from llm.interfaces import Message, ToolCall

Json = dict[str, Any]

INTERRUPTED = "—"
"""Follows what was heard of a reply: broken off, as a transcript writes it. A small model repeats
what it reads of itself, so the mark must be one that cannot be heard."""

_HARDLY = 3
"""Words of a reply that say nothing yet."""
_MOSTLY = 0.7
"""Part of its words that are the caller's own, in their order, where it only says them back."""


@dataclass
class Item:
    """One message, function call or function call's output, with its wire form."""

    id: str
    wire: Json
    """GA item without its id and status."""
    heard: str | None = None
    """Of an assistant's spoken message; None until it was interrupted: all of it."""
    status: str = "completed"
    recordings: dict[int, bytes] = field(default_factory=dict)
    """Audio whose words are still to be recognised, by the index of its part."""

    def to_wire(self) -> Json:
        wire = self.wire
        if self.heard is not None:
            part = wire["content"][0]
            name = "transcript" if "transcript" in part else "text"
            wire = {**wire, "content": [{**part, name: self.heard}]}
        return {"id": self.id, "object": "realtime.item", "status": self.status, **wire}

    def replace(self, content: list[Json]) -> None:
        """A message's new content; what was derived from the old one is forgotten."""
        self.wire["content"] = content
        for derived in ("text", "tokens", "sentences"):
            self.__dict__.pop(derived, None)

    @cached_property
    def text(self) -> str:
        """All text of a message's parts, joined."""
        parts = self.wire.get("content") or []
        if len(parts) == 1:
            return _part_text(parts[0])
        return "\n".join(filter(None, (_part_text(part) for part in parts)))

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        return sentences(self.text)

    @cached_property
    def tokens(self) -> int:
        """About how many tokens it takes, rather too many: three bytes each, and a frame; not those
        of its pictures."""
        wire = self.wire
        size = len(wire.get("arguments") or wire.get("output") or self.text)
        size = size if not self.text.isascii() else size // 3
        return 8 + size

    @property
    def role(self) -> str:
        """Of a message; empty for a function's call and output."""
        role: str = self.wire.get("role", "")
        return role

    @property
    def pictures(self) -> tuple[str, ...]:
        """Data URLs of the pictures that are still here."""
        parts = self.wire.get("content") or []
        return tuple(part["image_url"] for part in parts if part.get("image_url"))


def caller_turn(item_id: str, text: str | None = None) -> Item:
    """A spoken turn; None while its words are still to come."""
    content = [{"type": "input_audio", "transcript": text}]
    return Item(item_id, {"type": "message", "role": "user", "content": content})


def earlier(summary: str) -> Item:
    """What stands for the turns that have left the window. The caller's, because many chat
    templates refuse a second system message."""
    return _written(f"(Earlier in this call: {summary})")


def reminder(words: str) -> Item:
    """What the caller told before the window, and a turn asks for."""
    return _written(f"(Earlier in this call I said: {words})")


def spoken_reply(item_id: str, *, speaks: bool) -> Item:
    """An assistant message that is about to be said (or written)."""
    part: Json = {"type": "output_text", "text": ""}
    if speaks:
        part = {"type": "output_audio", "transcript": ""}
    wire = {"type": "message", "role": "assistant", "content": [part]}
    return Item(item_id, wire, status="in_progress")


def function_call(item_id: str, call: ToolCall) -> Item:
    wire = {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
    return Item(item_id, wire)


class _Content(msgspec.Struct):
    type: str
    text: str | None = None
    transcript: str | None = None
    image_url: str | None = None
    audio: str | None = None


_Id = Annotated[str, msgspec.Meta(max_length=128)]


class _Message(msgspec.Struct, tag_field="type", tag="message"):
    role: Literal["system", "user", "assistant"]
    content: list[_Content]
    id: _Id | None = None


class _Call(msgspec.Struct, tag_field="type", tag="function_call"):
    name: str
    arguments: str
    call_id: str | None = None
    id: _Id | None = None


class _Output(msgspec.Struct, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str
    id: _Id | None = None


_CONTENT = {
    "system": {"input_text": "text"},
    "user": {"input_text": "text", "input_audio": "transcript", "input_image": "image_url"},
    "assistant": {"output_text": "text", "output_audio": "transcript", "text": "text"},
}
"""By role, the kinds of content and the field that each must have."""
_EXPECTED = {
    ".type": "message, function_call or function_call_output",
    ".role": "system, user or assistant",
}


def parse_item(given: Json, event_id: str = "") -> Item:
    """A client's item, checked; of audio with a transcript only that is kept. Raises WireError."""
    try:
        item = msgspec.convert(given, _Message | _Call | _Output)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`")
        if path in _EXPECTED:
            problem = f"expected {_EXPECTED[path]}, got {reprlib.repr(given[path[1:]])}"
        raise _invalid(path, problem, event_id) from None
    if item.id == "root":
        raise _invalid(".id", "expected any id but 'root', which means the beginning", event_id)
    wire = {name: value for name, value in given.items() if name not in ("id", "status", "object")}
    recordings: dict[int, bytes] = {}
    if isinstance(item, _Message):
        wire["content"] = []
        for at, part in enumerate(item.content):
            path = f".content[{at}]"
            wire["content"].append(_checked(item.role, part, path, event_id))
            if part.type == "input_audio" and part.transcript is None:
                recordings[at] = audio_bytes(part.audio or "", f"item{path}.audio", event_id)
    if isinstance(item, _Call):
        wire["call_id"] = item.call_id or new_id("call")
    return Item(item.id or new_id("item"), wire, recordings=recordings)


def _checked(role: str, part: _Content, path: str, event_id: str) -> Json:
    """A part of a message, in its wire form."""
    allowed = _CONTENT[role]
    if part.type not in allowed:
        message = f"expected {' or '.join(allowed)} in a {role} message"
        raise _invalid(f"{path}.type", f"{message}, got {reprlib.repr(part.type)}", event_id)
    name = allowed[part.type]
    value = getattr(part, name)
    if value is None and not (part.type == "input_audio" and part.audio):
        raise _invalid(f"{path}.{name}", f"expected a string in {part.type}, got none", event_id)
    if value is not None and name == "image_url":
        try:
            content(value)
        except PictureError as error:
            raise _invalid(f"{path}.{name}", str(error), event_id) from None
    return {"type": "output_text" if part.type == "text" else part.type, name: value}


def _invalid(path: str, problem: str, event_id: str) -> WireError:
    param = f"item{path}"
    return WireError(f"{param}: {problem}", code="invalid_value", param=param, event_id=event_id)


@dataclass
class Conversation:
    """Items by id, in the order in which they are answered."""

    window: Window = field(default_factory=Window)
    """What of it the model is given."""
    _items: dict[str, Item] = field(default_factory=dict)

    def latest(self, window: Window | None = None, said: str = "") -> list[Item]:
        """The items in the window, or in another one, behind what sums up those before them, and
        at the end a turn of which so far was `said`. If the last turn asks for what the caller told
        before the window, that stands in front of it."""
        items = list(self._items.values())
        self.window = self.window.fitting(items)
        window = window or self.window
        inside = list(window.items(items))
        left = items[: len(items) - len(inside)]
        if said:
            inside.append(caller_turn("", said))
        asks = _asking(inside)
        if left and asks is not None:
            told = [s for item in left if item.role == "user" for s in item.sentences]
            call = [s for item in (*left, *inside[:asks]) for s in item.sentences]
            if found := recalled(inside[asks].text, told, call):
                inside.insert(asks, reminder(" ".join(found)))
        return [earlier(window.summary), *inside] if window.summary else inside

    @property
    def is_full(self) -> bool:
        """Whether it is time for the oldest items to leave the window."""
        return self.window.is_full(list(self._items.values()))

    def moved(self, summary: str) -> Window:
        """The window without the oldest items, which `summary` stands for."""
        return self.window.moved(list(self._items.values()), summary)

    @property
    def last_id(self) -> str | None:
        return next(reversed(self._items), None)

    def add(self, item: Item, after: str | None = None, event_id: str = "") -> str | None:
        """Put `item` at the end, at the beginning ("root") or after an item.

        Answers the id of the item before it. Raises WireError."""
        if item.id in self._items:
            raise WireError(
                f"expected a new item id, got {item.id!r}, which is in the conversation",
                code="item_create_duplicate_item_id",
                param="item.id",
                event_id=event_id,
            )
        if not after or after == self.last_id:
            previous = self.last_id
            self._items[item.id] = item
            return previous
        if after != "root" and after not in self._items:
            raise _unknown(
                "item_create_invalid_previous_item_id", after, event_id, "previous_item_id"
            )
        items = list(self._items.values())
        at = 0 if after == "root" else 1 + [known.id for known in items].index(after)
        items.insert(at, item)
        self._items = {known.id: known for known in items}
        return None if at == 0 else after

    def get(self, item_id: str, code: str = "item_not_found", event_id: str = "") -> Item:
        """Raises WireError with `code` when there is no such item."""
        if item_id not in self._items:
            raise _unknown(code, item_id, event_id)
        return self._items[item_id]

    def delete(self, item_id: str, event_id: str = "") -> None:
        self.get(item_id, "item_delete_invalid_item_id", event_id)
        if item_id == self.window.first:
            ids = [*self._items, ""]
            self.window = replace(self.window, first=ids[ids.index(item_id) + 1])
        del self._items[item_id]

    def set_transcript(self, item_id: str, text: str) -> None:
        """The words of a spoken turn; a turn that the client has deleted stays deleted."""
        if item := self._items.get(item_id):
            item.replace([{"type": "input_audio", "transcript": text}])

    def set_reply(self, item_id: str, text: str, status: str) -> None:
        """All that a reply has told the client so far."""
        if item := self._items.get(item_id):
            part = item.wire["content"][0]
            name = "transcript" if part["type"] == "output_audio" else "text"
            item.replace([{**part, name: text}])
            item.status = status

    def set_heard(self, item_id: str, text: str | None) -> None:
        """What the caller heard of a reply that ended early; None: all of it."""
        if item := self._items.get(item_id):
            item.heard = text


def to_messages(
    instructions: str, items: Iterable[Item], *, sees: bool = False
) -> tuple[Message, ...]:
    """Items in chat form, with the pictures themselves for a model that `sees`.

    What was said in several turns without an answer between them is one message: chat templates
    alternate, and small models answer only the last of several. No answer is a reply that the
    caller, in mid-sentence, talked over as it began: it came because the caller was thought to be
    done; nor one that only says back what was told: a small model that reads that of itself does
    it for ever."""
    messages = [Message("system", instructions)] if instructions else []
    items = list(items)
    for item, following in zip_longest(items, items[1:]):
        message = _message(item, sees=sees)
        if message and item.role == "assistant":
            told = messages[-1].content if messages and messages[-1].role == "user" else ""
            if _too_soon(item, following) or _says_back(message.content, told):
                message = None
        last = messages[-1] if messages else None
        if message is None:
            continue
        if last and last.role == message.role and message.role in ("user", "assistant"):
            both = f"{last.content}\n{message.content}".strip("\n")
            calls = last.tool_calls + message.tool_calls
            images = last.images + message.images
            messages[-1] = Message(message.role, both, calls, images=images)
        else:
            messages.append(message)
    return tuple(messages)


def _too_soon(item: Item, following: Item | None) -> bool:
    """Whether hardly any of this reply was heard when the caller went on in mid-sentence."""
    if item.heard is None or following is None or following.role != "user":
        return False
    said = following.text
    spoken = any(part["type"] == "input_audio" for part in following.wire["content"])
    goes_on = said[:1].islower() or tokens(said)[:1] == ["and"]
    wants = asks(said) or stops(said)
    return spoken and goes_on and not wants and len(tokens(item.heard)) <= _HARDLY


@lru_cache(maxsize=1024)
def _says_back(reply: str, told: str) -> bool:
    """Whether a reply to words that ask for nothing is hardly more than those words."""
    if not tells(told) or len(tokens(reply)) <= _HARDLY:
        return False
    return echoed(reply, told) >= _MOSTLY


def _message(item: Item, *, sees: bool) -> Message | None:
    wire = item.wire
    match wire["type"]:
        case "function_call":
            call = ToolCall(wire["call_id"], wire["name"], wire["arguments"])
            return Message("assistant", "", (call,))
        case "function_call_output":
            return Message("tool", wire["output"], tool_call_id=wire["call_id"])
    text = item.text
    if item.heard is not None:
        text = item.heard.rstrip() + INTERRUPTED if item.heard.strip() else ""
    if sees and item.pictures:
        said = (_part_text(part) for part in wire["content"] if "image_url" not in part)
        return Message(wire["role"], "\n".join(filter(None, said)), images=item.pictures)
    return Message(wire["role"], text) if text.strip() else None


def _asking(items: list[Item]) -> int | None:
    """Where the caller's turn is that is still to be answered, but for a tool's outputs."""
    for at in reversed(range(len(items))):
        if items[at].role:
            return at if items[at].role == "user" else None
    return None


def _written(text: str) -> Item:
    content = [{"type": "input_text", "text": text}]
    return Item("", {"type": "message", "role": "user", "content": content})


def _part_text(part: Json) -> str:
    if part["type"] == "input_image":
        return told(part)
    text: str = part.get("text") or part.get("transcript") or ""
    return text.rstrip()


def _unknown(code: str, item_id: str, event_id: str, param: str = "item_id") -> WireError:
    return WireError(
        f"expected the id of an item of this conversation, got {reprlib.repr(item_id)}",
        code=code,
        param=param,
        event_id=event_id,
    )
