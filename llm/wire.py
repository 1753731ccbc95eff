"""Messages and tools in the OpenAI chat-completions shape, which every engine speaks."""

from __future__ import annotations

from typing import Any

from llm.interfaces import LanguageModelError, Message, Prompt, Tool, ToolCall
from llm.tooltext import new_call_id

Json = dict[str, Any]

END = "\u27eaend\u27eb"
"""Put behind the caller's last word to find where a chat template goes on after it."""


def encode_message(message: Message) -> Json:
    encoded: Json = {"role": message.role, "content": message.content}
    if message.images:
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
        encoded["content"] = [{"type": "text", "text": message.content}, *pictures]
    if message.tool_calls:
        encoded["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        encoded["tool_call_id"] = message.tool_call_id
    return encoded


def encode_tool(tool: Tool) -> Json:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def encode_prompt(prompt: Prompt) -> Json:
    """`messages`, and `tools` where there are any."""
    encoded: Json = {"messages": [encode_message(message) for message in prompt.messages]}
    if prompt.tools:
        encoded["tools"] = [encode_tool(tool) for tool in prompt.tools]
    return encoded


def marked(prompt: Prompt) -> Prompt:
    """The prompt with the end mark right behind the caller's last word."""
    *before, last = prompt.messages or (Message("user", ""),)
    if last.role not in {"user", "tool"}:
        before, last = [*before, last], Message("user", "")
    # A space would be read as a token of its own, and unread again when a word follows it.
    ended = Message(last.role, last.content.rstrip() + END, tool_call_id=last.tool_call_id)
    return Prompt((*before, ended), prompt.tools, prompt.tool_choice)


def allowed_tools(prompt: Prompt) -> tuple[Tool, ...]:
    """Those of which the reply must call one. Raises LanguageModelError when there is none."""
    allowed = tuple(t for t in prompt.tools if prompt.tool_choice in {"required", t.name})
    if not allowed:
        raise LanguageModelError(
            f"tool_choice is {prompt.tool_choice!r}, but the tools are "
            f"{', '.join(tool.name for tool in prompt.tools)}"
        )
    return allowed


def encode_tool_choice(choice: str) -> str | Json:
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


class ToolCallDeltas:
    """Puts together the tool calls that a streamed chat completion sends in pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, Json] = {}

    def add(self, deltas: list[Json]) -> None:
        for delta in deltas:
            call = self._calls.setdefault(
                delta.get("index", 0), {"id": "", "name": "", "arguments": ""}
            )
            function = delta.get("function") or {}
            call["id"] = delta.get("id") or call["id"]
            call["name"] = function.get("name") or call["name"]
            call["arguments"] += function.get("arguments") or ""

    def finish(self) -> list[ToolCall]:
        """The calls in the order of their index."""
        return [
            ToolCall(call["id"] or new_call_id(), call["name"], call["arguments"] or "{}")
            for _, call in sorted(self._calls.items())
        ]
