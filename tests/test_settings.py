"""The session object: deep merge, defaults, beta names, and an error for each wrong field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.wire import realtime as wire
from assistant.wire.errors import WireError
from assistant.wire.settings import Defaults, SessionSettings
from llm.interfaces import Tool
from tests.strict import valid

DEFAULTS = Defaults("the-model", "Be kind.", "joe", 1.0, "whisper-base", "", 0.6, 400)
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def session(**patch: Any) -> SessionSettings:
    settings = SessionSettings(DEFAULTS, "sess_1", {"version": 1})
    if patch:
        settings.update(patch)
    return settings


def at_input(**fields: Any) -> dict[str, Any]:
    return {"audio": {"input": fields}}


def at_output(**fields: Any) -> dict[str, Any]:
    return {"audio": {"output": fields}}


def detection(settings: SessionSettings) -> Any:
    return settings.to_wire()["audio"]["input"]["turn_detection"]


@pytest.mark.client
def test_the_session_is_complete_from_the_start() -> None:
    whole = session().to_wire()
    assert whole == {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_1",
        "model": "the-model",
        "output_modalities": ["audio"],
        "instructions": "Be kind.",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "whisper-base"},
                "noise_reduction": None,
                "turn_detection": {
                    "type": "semantic_vad",
                    "eagerness": "auto",
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "voice": "joe",
                "speed": 1.0,
            },
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "conch": {"version": 1},
    }
    assert valid(wire.session_created(whole)).session.audio.output.voice == "joe"


def test_an_update_merges_at_every_depth() -> None:
    settings = session(**at_input(transcription={"language": "zh-CN"}))
    settings.update({"instructions": "Be brief.", **at_output(speed=1.2)})
    whole = settings.to_wire()
    assert whole["audio"]["input"]["transcription"] == {
        "model": "whisper-base",
        "language": "zh-CN",
    }
    assert whole["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "joe",
        "speed": 1.2,
    }
    assert settings.language == "zh"
    assert settings.response().instructions == "Be brief."


def test_server_vad_is_filled_in() -> None:
    settings = session(**at_input(turn_detection={"type": "server_vad", "threshold": 0.7}))
    assert detection(settings) == {
        "type": "server_vad",
        "create_response": True,
        "interrupt_response": True,
        "threshold": 0.7,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
    }
    settings.update(at_input(turn_detection={"silence_duration_ms": 200}))
    assert detection(settings)["threshold"] == 0.7
    assert settings.turn_detection is not None
    assert settings.turn_detection.silence_duration_ms == 200


def test_null_in_turn_detection_is_its_default() -> None:
    settings = session()
    settings.update(at_input(turn_detection={"type": "server_vad", "silence_duration_ms": 200}))
    nothing = dict.fromkeys(("silence_duration_ms", "threshold", "create_response", "eagerness"))
    settings.update(at_input(turn_detection={"type": "server_vad", **nothing}))
    assert detection(settings) == {
        "type": "server_vad",
        "create_response": True,
        "interrupt_response": True,
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
    }


def test_the_kind_of_turn_detection_can_change() -> None:
    settings = session(**at_input(turn_detection={"type": "server_vad", "create_response": False}))
    settings.update(at_input(turn_detection={"type": "semantic_vad", "eagerness": "low"}))
    assert detection(settings) == {
        "type": "semantic_vad",
        "create_response": False,
        "interrupt_response": True,
        "eagerness": "low",
    }


def test_null_clears() -> None:
    settings = session(
        **at_input(turn_detection=None, transcription=None, noise_reduction=None), instructions=None
    )
    assert settings.turn_detection is None
    assert not settings.transcription
    assert settings.language == ""
    assert settings.response().instructions == ""
    assert settings.to_wire()["instructions"] == ""


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        ({"tools": None}, "tools", []),
        ({"tool_choice": None}, "tool_choice", "auto"),
        ({"output_modalities": None}, "output_modalities", ["audio"]),
        ({"max_output_tokens": None}, "max_output_tokens", "inf"),
        ({"model": None}, "model", "the-model"),
        (at_output(voice=None), "audio.output.voice", "joe"),
        (at_output(speed=None), "audio.output.speed", 1.0),
        (at_input(format=None), "audio.input.format", {"type": "audio/pcm", "rate": 24000}),
        ({"audio": None}, "audio.output.voice", "joe"),
        ({"audio": {"other": None}}, "audio.output.voice", "ash"),
    ],
)
def test_what_a_call_cannot_do_without_goes_back_to_its_default(
    patch: dict[str, Any], path: str, expected: Any
) -> None:
    settings = session(
        tools=[WEATHER],
        tool_choice="required",
        output_modalities=["text"],
        max_output_tokens=9,
        model="other",
        audio={
            "input": {"format": {"type": "audio/pcmu"}},
            "output": {"voice": "ash", "speed": 2.0},
        },
    )
    settings.update(patch)
    value: Any = settings.to_wire()
    for name in path.split("."):
        value = value[name]
    assert value == expected


def test_unknown_names_of_models_and_voices_are_echoed() -> None:
    settings = session(model="gpt-realtime", **at_output(voice="marin"))
    assert settings.to_wire()["model"] == "gpt-realtime"
    assert settings.response().voice == "marin"
    settings.update(at_output(voice={"id": "voice_1"}))
    assert settings.response().voice == "voice_1"


def test_what_the_server_does_not_read_is_echoed() -> None:
    settings = session(prompt={"id": "p"}, tracing="auto", reasoning={"effort": "low"})
    whole = settings.to_wire()
    assert (whole["prompt"], whole["tracing"]) == ({"id": "p"}, "auto")
    assert whole["reasoning"] == {"effort": "low"}


def test_the_client_cannot_change_what_is_the_servers() -> None:
    settings = session(id="mine", object="mine", conch={})
    assert settings.to_wire() == session().to_wire()


def test_what_is_handed_out_is_a_copy() -> None:
    settings = session()
    settings.to_wire()["audio"]["input"]["format"]["type"] = "audio/pcma"
    patch: dict[str, Any] = {"tools": [dict(WEATHER)]}
    settings.update(patch)
    patch["tools"][0]["name"] = "changed"
    assert settings.input_format.name == "audio/pcm"
    assert settings.response().tools[0].name == "weather"


@pytest.mark.parametrize(
    ("given", "name", "rate", "width"),
    [
        ({"type": "audio/pcm"}, "audio/pcm", 24_000, 2),
        ({"type": "audio/pcmu"}, "audio/pcmu", 8_000, 1),
        ({"type": "audio/pcma", "rate": 8000}, "audio/pcma", 8_000, 1),
    ],
)
def test_audio_formats(given: dict[str, Any], name: str, rate: int, width: int) -> None:
    settings = session(audio={"input": {"format": given}, "output": {"format": given}})
    for form in (settings.input_format, settings.response().output):
        assert (form.name, form.rate, form.sample_width) == (name, rate, width)
    echoed = settings.to_wire()["audio"]["input"]["format"]
    assert echoed == ({"type": name, "rate": rate} if name == "audio/pcm" else {"type": name})


def test_the_flat_fields_of_the_beta() -> None:
    settings = session(
        modalities=["text", "audio"],
        voice="alloy",
        input_audio_format="g711_ulaw",
        output_audio_format="g711_alaw",
        input_audio_transcription={"model": "whisper-1", "language": "en"},
        input_audio_noise_reduction={"type": "near_field"},
        turn_detection={"type": "server_vad", "silence_duration_ms": 400},
        max_response_output_tokens=50,
    )
    assert settings.input_format.name == "audio/pcmu"
    response = settings.response()
    assert (response.output.name, response.voice) == ("audio/pcma", "alloy")
    assert (response.speaks, response.max_tokens) == (True, 50)
    assert settings.language == "en"
    assert detection(settings)["silence_duration_ms"] == 400
    assert not {"voice", "modalities", "turn_detection"} & set(settings.to_wire())
    settings.update({"modalities": ["text"], "turn_detection": None})
    assert not settings.response().speaks
    assert settings.turn_detection is None


@pytest.mark.parametrize(
    ("patch", "param", "words"),
    [
        ({"type": "transcription"}, "type", "expected 'realtime', got 'transcription'"),
        ({"audio": 5}, "audio", "got `int`"),
        ({"audio": {"input": "x"}}, "audio.input", "got `str`"),
        (at_input(format={"type": "mp3"}), "audio.input.format.type", "audio/pcma, got 'mp3'"),
        (
            at_input(format={"type": "audio/pcm", "rate": 8000}),
            "audio.input.format.rate",
            "24000 for audio/pcm, 8000 for audio/pcmu and audio/pcma, got 8000",
        ),
        (at_output(format={"rate": 24000}), "audio.output.format", "missing required field"),
        ({"input_audio_format": "mp3"}, "audio.input.format.type", "got 'mp3'"),
        (at_input(turn_detection="none"), "audio.input.turn_detection", "got `str`"),
        (
            at_input(turn_detection={"type": "magic"}),
            "audio.input.turn_detection.type",
            "expected server_vad or semantic_vad, got 'magic'",
        ),
        (
            at_input(turn_detection={"type": "semantic_vad", "eagerness": 1}),
            "audio.input.turn_detection.eagerness",
            "got `int`",
        ),
        (
            at_input(turn_detection={"threshold": 7}),
            "audio.input.turn_detection.threshold",
            "<= 1.0, got 7",
        ),
        (
            at_input(turn_detection={"silence_duration_ms": -5}),
            "audio.input.turn_detection.silence_duration_ms",
            ">= 0, got -5",
        ),
        (at_input(transcription="on"), "audio.input.transcription", "got `str`"),
        (at_input(noise_reduction={"type": "x"}), "audio.input.noise_reduction.type", "got 'x'"),
        (at_output(speed=0), "audio.output.speed", "Expected `float` >= 0.25, got 0"),
        (at_output(voice={}), "audio.output.voice", "missing required field `id`"),
        ({"output_modalities": []}, "output_modalities", "length >= 1, got []"),
        ({"output_modalities": ["smell"]}, "output_modalities[0]", "audio or text, got 'smell'"),
        ({"tools": [WEATHER, {"type": "mcp"}]}, "tools[1].type", "expected function, got 'mcp'"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name", "length >= 1, got ''"),
        ({"tools": {}}, "tools", "got `object`"),
        ({"tool_choice": "maybe"}, "tool_choice", "none, auto, required"),
        ({"tool_choice": {"function": "x"}}, "tool_choice.function", "got `str`"),
        ({"temperature": -3}, "temperature", ">= 0.0, got -3"),
        ({"max_output_tokens": 0}, "max_output_tokens", ">= 1, got 0"),
        ({"max_output_tokens": "all"}, "max_output_tokens", "or inf, got 'all'"),
        ({"tracing": 5}, "tracing", "got `int`"),
        ({"instructions": ["x"]}, "instructions", "got `array`"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_setting_is_named_and_changes_nothing(
    patch: dict[str, Any], param: str, words: str
) -> None:
    settings = session()
    before = settings.to_wire()
    with pytest.raises(WireError) as caught:
        settings.update({**patch, "prompt": {"id": "p"}}, "e5")
    error = caught.value
    assert (error.code, error.param, error.event_id) == ("invalid_value", f"session.{param}", "e5")
    assert words in error.message
    assert error.message.startswith(error.param)
    assert settings.to_wire() == before


def test_a_response_is_made_with_the_sessions_settings() -> None:
    settings = session(tools=[WEATHER], max_output_tokens=80)
    response = settings.response()
    assert response.instructions == "Be kind."
    assert response.tools == (Tool("weather", "", {"type": "object"}),)
    assert (response.tool_choice, response.temperature, response.max_tokens) == ("auto", 0.6, 80)
    assert (response.metadata, response.in_conversation, response.input) == (None, True, None)


def test_a_response_has_settings_of_its_own() -> None:
    settings = session(tools=[WEATHER])
    items = [{"type": "message", "role": "user", "content": []}]
    response = settings.response(
        {
            "instructions": "Rhyme.",
            "output_modalities": ["text"],
            "tools": [],
            "tool_choice": {"type": "function", "name": "weather"},
            "max_output_tokens": 5,
            "temperature": 0,
            "audio": {"output": {"voice": "eve", "format": {"type": "audio/pcmu"}}},
            "metadata": {"topic": "verse"},
            "conversation": "none",
            "input": items,
        }
    )
    assert (response.instructions, response.speaks, response.tools) == ("Rhyme.", False, ())
    assert (response.tool_choice, response.max_tokens) == ("weather", 5)
    assert response.temperature == 0
    assert (response.voice, response.output.name) == ("eve", "audio/pcmu")
    assert (response.metadata, response.in_conversation) == ({"topic": "verse"}, False)
    assert response.input == tuple(items)
    assert settings.to_wire() == session(tools=[WEATHER]).to_wire()


def test_null_in_a_response_is_the_sessions() -> None:
    response = session(tools=[WEATHER]).response({"instructions": None, "tools": None})
    assert response.instructions == "Be kind."
    assert len(response.tools) == 1


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"conversation": "new"}, "conversation"),
        ({"input": [5]}, "input[0]"),
        ({"audio": {"output": {"format": {"type": "mp3"}}}}, "audio.output.format.type"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
    ],
)
def test_a_wrong_setting_of_a_response_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(WireError) as caught:
        session().response(given, "e6")
    assert (caught.value.param, caught.value.event_id) == (f"response.{param}", "e6")


_names = st.sampled_from(
    "audio input output format type rate voice speed turn_detection transcription tools name "
    "tool_choice function instructions output_modalities input_audio_format modalities".split()
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("audio/pcmu"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(_names, values, max_size=3), max_size=3))
def test_whatever_is_patched_the_session_stays_usable(patches: list[dict[str, Any]]) -> None:
    settings = session()
    for patch in patches:
        try:
            settings.update({**patch, "type": "realtime"})
        except WireError as error:
            assert error.param.startswith("session")  # noqa: PT017  # both are right
    assert settings.response().output.rate in (8_000, 24_000)
    assert settings.input_format.rate in (8_000, 24_000)
    assert settings.turn_detection is None or settings.turn_detection.create_response in (0, 1)
    wire.encode(wire.session_updated(settings.to_wire()))
