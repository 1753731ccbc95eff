"""A call's captions from its events: what is certain, what is to come, what was never heard."""

from __future__ import annotations

from typing import Any

from assistant.clients.captions import Caption, Captions, Floor

TRANSCRIPTION = "conversation.item.input_audio_transcription"


def told(captions: Captions, at: float, kind: str, **fields: Any) -> Any:
    return captions.take({"type": kind, **fields}, at)


def asked() -> Captions:
    captions = Captions()
    told(captions, 1.0, "input_audio_buffer.speech_started", item_id="u")
    told(captions, 1.5, f"{TRANSCRIPTION}.delta", item_id="u", delta="what is")
    return captions


def answered() -> Captions:
    """Two clauses, of a second each."""
    captions = asked()
    told(captions, 2.4, "input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=2000)
    told(captions, 2.5, "input_audio_buffer.committed", item_id="u")
    told(captions, 2.5, f"{TRANSCRIPTION}.completed", item_id="u", transcript="What is it?")
    told(captions, 2.6, "response.created", response={"id": "r"})
    for at, words in ((2.9, "It is a "), (3.9, "lighthouse.")):
        told(captions, at, "response.output_audio_transcript.delta", item_id="a", delta=words)
        told(captions, at, "response.output_audio.delta", item_id="a", samples=24_000)
    return captions


def test_the_callers_words_are_tentative_until_the_turn_is_over() -> None:
    captions = asked()
    assert captions.floor is Floor.YOU
    assert captions.turns["u"].parts(0) == ("", "what is", "")
    assert not captions.turns["u"].settled(0)
    assert answered().turns["u"].parts(0) == ("What is it?", "", "")


def test_a_reply_is_certain_as_far_as_it_has_been_played() -> None:
    captions = answered()
    assert captions.floor is Floor.CONCH
    reply = captions.turns["a"]
    assert reply.parts(0) == ("", "It is a lighthouse.", "")
    assert reply.parts(1) == ("It is a ", "lighthouse.", "")
    assert reply.parts(24_001) == ("It is a lighthouse.", "", "")


def test_the_latency_is_from_the_end_of_speech_to_the_first_audio() -> None:
    captions = answered()
    latency = captions.turns["a"].latency
    assert latency is not None
    assert round(latency, 6) == 0.9
    parts = {"endpointing": 300}
    told(
        captions, 5.0, "response.done",
        response={"status": "completed", "output": [{"id": "a"}]}, conch={"timing_ms": parts},
    )  # fmt: skip
    assert captions.turns["a"].timing_ms == parts
    assert not captions.turns["a"].settled(47_999)
    assert captions.turns["a"].settled(48_000)


def test_what_was_never_heard_is_asked_for_and_shown() -> None:
    captions = answered()
    question = told(captions, 4.0, "conversation.item.truncated", item_id="a", audio_end_ms=900)
    assert question == {"type": "conversation.item.retrieve", "item_id": "a"}
    cancelled = {"status": "cancelled", "output": [{"id": "a"}]}
    assert told(captions, 4.1, "response.done", response=cancelled) == question
    item = {"id": "a", "content": [{"type": "output_audio", "transcript": "It is"}]}
    assert not captions.turns["a"].settled(0)
    told(captions, 4.2, "conversation.item.retrieved", item=item)
    assert captions.turns["a"].parts(22_000) == ("It is", "", " a lighthouse.")
    assert captions.turns["a"].settled(22_000)


def test_a_written_reply_needs_no_ear() -> None:
    captions = Captions()
    told(captions, 1.0, "response.output_text.delta", item_id="t", delta="Yes.")
    assert captions.turns["t"] == Caption("conch", "Yes.")
    told(captions, 1.1, "response.done", response={"status": "completed", "output": [{"id": "t"}]})
    assert captions.turns["t"].parts(0) == ("Yes.", "", "")


def test_a_response_without_sound_gives_the_floor_back() -> None:
    captions = Captions()
    told(captions, 1.0, "response.created", response={"id": "r"})
    assert captions.floor is Floor.THINKING
    told(captions, 1.1, "response.done", response={"status": "failed", "output": []})
    assert captions.floor is Floor.OPEN
