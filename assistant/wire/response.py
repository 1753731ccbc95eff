"""The events of one response, in the one order that clients rely on. Pure.

response.created, then per item output_item.added .. output_item.done, then response.done, once.
Out-of-band responses (`conversation: none`) have no conversation.item events.
"""

from __future__ import annotations

import base64
from typing import Any

from assistant.wire.realtime import conversation_item_added, conversation_item_done
from assistant.wire.settings import ResponseSettings
from llm.interfaces import Finished, ToolCall

Event = dict[str, Any]


class ResponseStream:
    """Makes the events; a call out of order is a bug of the server: RuntimeError."""

    def __init__(self, response_id: str, settings: ResponseSettings) -> None:
        self.id = response_id
        self._settings = settings
        self._output: list[Event] = []
        self._message: Event | None = None
        self._previous: str | None = None
        self._state = "new"

    def created(self) -> list[Event]:
        self._expect("new")
        self._state = "open"
        return [{"type": "response.created", "response": self._response("in_progress")}]

    def start_message(self, item_id: str, previous_item_id: str | None) -> list[Event]:
        """The response's spoken or written message begins."""
        self._expect("open")
        self._state = "message"
        self._message = self._item(item_id, "in_progress")
        self._previous = previous_item_id
        return [
            self._event("output_item.added", item=self._message),
            *self._remembered(conversation_item_added, self._message, previous_item_id),
            self._in_part("content_part.added", part=self._part("")),
        ]

    def transcript(self, delta: str) -> Event:
        """Words that are spoken next."""
        self._expect("message", speaks=True)
        return self._in_part("output_audio_transcript.delta", delta=delta)

    def audio(self, data: bytes) -> Event:
        """The next audio, in the response's format."""
        self._expect("message", speaks=True)
        return self._in_part("output_audio.delta", delta=base64.b64encode(data).decode())

    def text(self, delta: str) -> Event:
        self._expect("message", speaks=False)
        return self._in_part("output_text.delta", delta=delta)

    def finish_message(self, text: str, status: str) -> list[Event]:
        """The message is over: `text` is all of its words, status completed or incomplete."""
        self._expect("message")
        self._state = "open"
        if self._settings.speaks:
            done = [
                self._in_part("output_audio.done"),
                self._in_part("output_audio_transcript.done", transcript=text),
            ]
        else:
            done = [self._in_part("output_text.done", text=text)]
        done.append(self._in_part("content_part.done", part=self._part(text)))
        item = self._item(self._message_id, status, text)
        return [*done, *self._item_done(item, self._previous)]

    def function_call(
        self, item_id: str, call: ToolCall, previous_item_id: str | None
    ) -> list[Event]:
        self._expect("open")
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        whole = {**item, "status": "completed", "arguments": call.arguments}
        where = {"item_id": item_id, "call_id": call.id}
        arguments = "function_call_arguments"
        return [
            self._event("output_item.added", item=item),
            *self._remembered(conversation_item_added, item, previous_item_id),
            self._event(f"{arguments}.delta", **where, delta=call.arguments),
            self._event(f"{arguments}.done", **where, name=call.name, arguments=call.arguments),
            *self._item_done(whole, previous_item_id),
        ]

    def done(
        self,
        status: str,
        reason: str = "",
        error: Event | None = None,
        usage: Finished | None = None,
    ) -> Event:
        """The one terminal event."""
        self._expect("open")
        self._state = "done"
        response = self._response(status)
        if status != "completed":
            details: Event = {"type": status}
            if reason:
                details["reason"] = reason
            if error:
                details["error"] = error
            response["status_details"] = details
        response["usage"] = _usage(usage or Finished("stop"))
        return {"type": "response.done", "response": response}

    # --- parts ----------------------------------------------------------------------------

    def _expect(self, state: str, *, speaks: bool | None = None) -> None:
        if self._state != state:
            raise RuntimeError(f"response {self.id}: expected state {state}, is {self._state}")
        if speaks not in (None, self._settings.speaks):
            kind = "speaks" if self._settings.speaks else "writes"
            raise RuntimeError(f"response {self.id}: got the other kind of delta, but it {kind}")

    @property
    def _message_id(self) -> str:
        if self._message is None:
            raise RuntimeError(f"response {self.id} has no message")
        return str(self._message["id"])

    def _event(self, kind: str, **fields: Any) -> Event:
        where = {"response_id": self.id, "output_index": len(self._output)}
        return {"type": f"response.{kind}", **where, **fields}

    def _in_part(self, kind: str, **fields: Any) -> Event:
        return self._event(kind, item_id=self._message_id, content_index=0, **fields)

    def _item_done(self, item: Event, previous_item_id: str | None) -> list[Event]:
        done = [
            *self._remembered(conversation_item_done, item, previous_item_id),
            self._event("output_item.done", item=item),
        ]
        self._output.append(item)
        return done

    def _remembered(self, event: Any, item: Event, previous: str | None) -> list[Event]:
        return [event(item, previous)] if self._settings.in_conversation else []

    def _part(self, text: str) -> Event:
        if self._settings.speaks:
            return {"type": "audio", "transcript": text}
        return {"type": "text", "text": text}

    def _item(self, item_id: str, status: str, text: str = "") -> Event:
        kind, name = (
            ("output_audio", "transcript") if self._settings.speaks else ("output_text", "text")
        )
        return {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if status == "in_progress" else [{"type": kind, name: text}],
        }

    def _response(self, status: str) -> Event:
        settings = self._settings
        output = {"format": settings.output.to_wire(), "voice": settings.voice}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": None,
            "output": list(self._output),
            "output_modalities": ["audio"] if settings.speaks else ["text"],
            "audio": {"output": output},
            "max_output_tokens": settings.max_tokens,
            "metadata": settings.metadata,
            "usage": None,
        }


def _usage(usage: Finished) -> Event:
    return {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {"cached_tokens": usage.cached_tokens},
        "output_token_details": {},
    }
