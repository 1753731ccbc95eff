"""What each kind of client event does to a session."""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant import floor
from assistant.conversation import parse_item
from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from speech.audio import DECODE, to_float
from speech.interfaces import RATE, Pcm

if TYPE_CHECKING:
    from assistant.session import Session

_SHORTEST_COMMIT = RATE // 10
_REFUSALS = {
    "response_cancel_not_active": "Cancellation failed: no active response found",
    "conversation_already_has_active_response": (
        "expected no response to be active, but one is; wait for its response.done or cancel it"
    ),
}


def refusal(code: str) -> WireError:
    return WireError(_REFUSALS[code], code=code)


async def handle(session: Session, event: wire.ClientEvent) -> None:
    """Carry one client event out. Raises WireError, with the event's id."""
    try:
        await _handle(session, event)
    except WireError as error:
        error.event_id = error.event_id or event.event_id
        raise


async def _handle(session: Session, event: wire.ClientEvent) -> None:  # noqa: C901, PLR0912
    match event:
        case wire.InputAudioBufferAppend():
            form = session.settings.input_format
            data = wire.audio_bytes(event, form.sample_width)
            pcm: Pcm = DECODE[form.name](data)
            await session.hear(to_float(pcm), form.rate)
        case wire.InputAudioBufferCommit():
            _commit(session)
        case wire.InputAudioBufferClear():
            _clear(session)
        case wire.SessionUpdate(session=patch):
            session.settings.update(patch)
            session.send([wire.session_updated(session.settings.to_wire())])
            session.configure()
        case wire.ConversationItemCreate(item=given, previous_item_id=after):
            item = parse_item(given)
            previous = session.memory.conversation.add(item, after)
            session.send(
                [
                    wire.conversation_item_added(item.to_wire(), previous),
                    wire.conversation_item_done(item.to_wire(), previous),
                ]
            )
            session.look(item, event.event_id)
            if item.wire["type"] == "function_call_output":
                session.turn(floor.ToolAnswered(item.wire["call_id"]))
            session.prefill("")
        case wire.ConversationItemRetrieve(item_id=item_id):
            item = session.memory.conversation.get(item_id, "item_retrieve_invalid_item_id")
            session.send([wire.conversation_item_retrieved(item.to_wire())])
        case wire.ConversationItemDelete(item_id=item_id):
            session.memory.conversation.delete(item_id)
            session.send([wire.conversation_item_deleted(item_id)])
        case wire.ConversationItemTruncate():
            _truncate(session, event)
        case wire.ResponseCreate(response=given):
            _respond(session, given if isinstance(given, dict) else None)
        case wire.ResponseCancel(response_id=wanted):
            _cancel(session, wanted)
        case wire.OutputAudioBufferClear():
            if session.turns.replies.active:
                session.turn(floor.CancelRequested())
        case wire.PlaybackAck(item_id=item_id, played_ms=played):
            reply = session.memory.replies.get(item_id)
            if reply and reply.playback:
                reply.played(round(played * reply.playback.rate / 1000))


def _respond(session: Session, given: dict[str, Any] | None) -> None:
    settings = session.settings.response(given)
    if settings.input is not None:
        items = tuple(_referred(session, item) for item in settings.input)
        for item in items:
            parse_item(item)
        settings = replace(settings, input=items)
    request = wire.new_id("req")
    session.asked[request] = settings
    try:
        session.turn(floor.ReplyRequested(request))
    except WireError:
        del session.asked[request]
        raise


def _referred(session: Session, given: dict[str, Any]) -> dict[str, Any]:
    """An item of the conversation where `given` is a reference to it."""
    if given.get("type") != "item_reference":
        return given
    return session.memory.conversation.get(str(given.get("id"))).to_wire()


def _cancel(session: Session, response_id: str | None) -> None:
    active = session.reply if session.turns.replies.active else None
    if active and response_id not in (None, active.response_id):
        raise WireError(
            f"Cancellation failed: expected {active.response_id}, the active response, "
            f"got {reprlib.repr(response_id)}",
            code="response_cancel_not_active",
            param="response_id",
        )
    session.turn(floor.CancelRequested())


def _commit(session: Session) -> None:
    if session.settings.turn_detection is not None:
        if session.turns.turn is None:
            raise _nothing_to_commit("no speech")
        session.turn(floor.CommitRequested())
        return
    heard = round(session.ear.turn_seconds * RATE) if session.caller.item_id else 0
    if heard < _SHORTEST_COMMIT:
        raise _nothing_to_commit(f"{heard * 1000 // RATE} ms")
    session.commit_buffer()


def _nothing_to_commit(got: str) -> WireError:
    return WireError(
        f"expected at least 100 ms of audio in the buffer, got {got}",
        code="input_audio_buffer_commit_empty",
    )


def _clear(session: Session) -> None:
    if session.turns.turn is not None:
        session.turn(floor.ClearRequested())
    elif session.caller.item_id:
        session.discard("cleared by the client", announced=False)
    session.send([wire.input_audio_buffer_cleared()])


def _truncate(session: Session, event: wire.ConversationItemTruncate) -> None:
    """The client says how much was played; more than was sent is taken as all of that."""
    item = session.memory.conversation.get(event.item_id, "item_truncate_invalid_item_id")
    if item.wire.get("role") != "assistant":
        raise WireError(
            f"expected the id of an assistant message, got {event.item_id!r}",
            code="item_truncate_invalid_item_id",
            param="item_id",
        )
    reply = session.memory.replies.get(event.item_id)
    played = round(event.audio_end_ms)
    if reply and reply.playback:
        samples = min(played * reply.playback.rate // 1000, reply.playback.sent)
        played = samples * 1000 // reply.playback.rate
        session.memory.keep_heard(reply, samples)
    session.send([wire.conversation_item_truncated(event.item_id, event.content_index, played)])
