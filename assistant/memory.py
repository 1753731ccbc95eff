"""What a call remembers: its conversation, with no more of each reply than was heard."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from assistant.conversation import (
    Conversation,
    caller_turn,
    function_call,
    parse_item,
    spoken_reply,
    to_messages,
)
from assistant.window import Window
from assistant.wire.settings import ResponseSettings
from llm.interfaces import Prompt, ToolCall

if TYPE_CHECKING:
    from assistant.reply import Reply

_REPLIES_KEPT = 32


class Memory:
    """The conversation, and the latest replies beside their audio."""

    def __init__(self, window: Window, *, sees: bool = False) -> None:
        """`window`: what of the conversation the model is given; `sees`: whether it is given
        pictures too."""
        self._sees = sees
        self.conversation = Conversation(window)
        self.replies: OrderedDict[str, Reply] = OrderedDict()
        """By item id: those that a client can still truncate to what was heard."""

    def message_begins(self, reply: Reply) -> str | None:
        """Add the reply's message; answers the id of the item before it."""
        self.replies[reply.item_id] = reply
        while len(self.replies) > _REPLIES_KEPT:
            self.replies.popitem(last=False)
        if not reply.remembered:
            return None
        return self.conversation.add(spoken_reply(reply.item_id, speaks=reply.playback is not None))

    def message_ends(self, reply: Reply, status: str) -> None:
        """The reply has told the client all that it will; `status` completed or incomplete."""
        self.conversation.set_reply(reply.item_id, reply.text, status)

    def tool_called(self, reply: Reply, item_id: str, call: ToolCall) -> str | None:
        """Add the call; answers the id of the item before it."""
        return self.conversation.add(function_call(item_id, call)) if reply.remembered else None

    def keep_heard(self, reply: Reply, samples: int | None = None) -> None:
        """Keep what the caller heard of it, by now or once `samples` were played."""
        self.conversation.set_heard(reply.item_id, reply.heard_text(samples))

    def prompt(
        self, settings: ResponseSettings, said: str = "", window: Window | None = None
    ) -> Prompt:
        """What the model is to answer; `said` is a turn that is not yet in the conversation,
        `window` another than the conversation's own."""
        if settings.input is None:
            items = self.conversation.latest(window, said)
        else:
            items = [parse_item(given) for given in settings.input]
            items += [caller_turn("", said)] if said else []
        messages = to_messages(settings.instructions, items, sees=self._sees)
        return Prompt(messages, settings.tools, settings.tool_choice)
