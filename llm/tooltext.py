"""Tool calls that a model wrote as plain text.

Small models do not keep to their own chat template: Qwen2.5-Coder writes a bare or fenced JSON
object, with its outer braces doubled as its template's example has them, where `<tool_call>` is
asked for, with what is left of a wrapper in front, or talks about the tool ("you can call the
`get_weather` function"). It calls tools that there are not, and tools whose result it has already.
A line that cannot be such a call is never held back.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace

from llm.interfaces import Prompt, ToolCall

_WRAPPERS = ("", "<tool_call>", "<tools>", "```", "```json", "```tool_call", "```xml<tool_call>")
_OBJECTS = ("{", "{{", "[{")
_KEYS = ('"name":', '"arguments":', '"function":', '"type":"function"')
_OPENINGS = tuple("".join(parts) for parts in itertools.product(_WRAPPERS, _OBJECTS, _KEYS))
_LITTER = ">=(:,"
"""What is left of a wrapper that a model did not get right: `>{"name": ...`."""
_INVENTED = re.compile(r'"name":\s*"[^"]*",\s*"(?:arguments|parameters)":')
_CLOSING_TAGS = ("</tool_call>", "</tools>")
_CLOSINGS = re.compile(r"(?:\s|[}\]),]|```|</\w+>)+")


def new_call_id() -> str:
    return f"call_{secrets.token_hex(8)}"


class ToolTextParser:
    """Splits a streamed reply into text to pass on at once and calls of the tools in `names`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._mention = re.compile(f"`({'|'.join(map(re.escape, names))})(?=\\W)")
        self._held = ""
        self._line_start = True
        self._quote = ""
        self.mentioned = ""
        """The tool that the reply talks about instead of calling it."""
        self.invented = False
        """The reply, now over, calls a tool that there is not: that is nothing to be read aloud."""

    def feed(self, text: str) -> str:
        """Take the next piece of the reply; gives the text that is certainly not a call."""
        if self.mentioned:
            return ""
        self._held += text
        passed = []
        while self._held:
            if self._line_start and _may_be_call(self._held):
                break
            line, newline, self._held = self._held.partition("\n")
            passed.append(line + newline)
            self._line_start = bool(newline)
        return self._before_mention(self._quote + "".join(passed))

    def complete(self) -> bool:
        """Whether a call was read and prose follows it: nothing more is worth generating."""
        calls, rest = _parse(self._held, self._names)
        unfinished_tag = any(tag.startswith(rest) for tag in _CLOSING_TAGS)
        return bool(calls) and not unfinished_tag and not _may_be_call(rest)

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The reply is over: the calls in it, or the held text where there were none."""
        calls, _ = _parse(self._held, self._names)
        self.invented = not calls and bool(_INVENTED.search(self._held))
        return ("" if calls else self._quote + self._held), calls

    def _before_mention(self, text: str) -> str:
        """`text` up to a tool's name in backticks; what may be one waits for its end."""
        if found := self._mention.search(text):
            self.mentioned, self._quote = found[1], ""
            return text[: found.start()]
        before, tick, quoted = text.rpartition("`")
        waits = bool(tick) and any(name.startswith(quoted) for name in self._names)
        self._quote = tick + quoted if waits else ""
        return before if waits else text


def _may_be_call(text: str) -> bool:
    compact = re.sub(r"\s+", "", text).lstrip(_LITTER)
    return any(o.startswith(compact) or compact.startswith(o) for o in _OPENINGS)


def _parse(text: str, names: frozenset[str]) -> tuple[list[ToolCall], str]:
    """The calls in `text`, and what follows the last of them and its closing marks."""
    decoder = json.JSONDecoder()
    calls: list[ToolCall] = []
    position = end = 0
    while (position := text.find("{", position)) >= 0:
        try:
            found, after = decoder.raw_decode(text, position)
        except ValueError:
            position += 1
            continue
        call = as_call(found, names)
        if call is not None:
            calls.append(call)
            end = after
        position = after
    return calls, _CLOSINGS.sub("", text[end:], count=1) if calls else text


def made_before(calls: Sequence[ToolCall], prompt: Prompt) -> bool:
    """Whether there are calls and each was already made since the caller last spoke: their results
    are there, and asking for them again would go on for ever."""
    made = set()
    for message in reversed(prompt.messages):
        if message.role == "user":
            break
        made |= {_content(call) for call in message.tool_calls}
    return bool(calls) and all(_content(call) in made for call in calls)


def in_words(prompt: Prompt) -> Prompt:
    """`prompt` without tools, and what they gave as if it had been told: a small model goes on
    calling where it sees calls."""
    told = (
        replace(message, role="user", content=f"({message.content})", tool_call_id="")
        if message.role == "tool"
        else replace(message, tool_calls=())
        for message in prompt.messages
        if message.content or message.images
    )
    return replace(prompt, messages=tuple(told), tools=(), tool_choice="auto")


def _content(call: ToolCall) -> tuple[str, str]:
    """What is asked of whom, however it is written."""
    try:
        return call.name, json.dumps(json.loads(call.arguments), sort_keys=True)
    except ValueError:
        return call.name, call.arguments


def as_call(found: object, names: frozenset[str]) -> ToolCall | None:
    """A decoded JSON object as a call of one of `names`, in any of the spellings in use."""
    if not isinstance(found, dict):
        return None
    inner = found.get("function", found)
    if not isinstance(inner, dict) or inner.get("name") not in names:
        return None
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(new_call_id(), inner["name"], arguments)
