"""The HTTP API with fake engines, asked by the stock `openai` client."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import httpx
import numpy as np
import openai
import pytest
import soundfile
from openai.types.chat import ChatCompletionToolParam

from assistant.config import Config, Secret, ServerConfig
from assistant.http_audio import OUTPUT_RATE
from assistant.server import create_app
from assistant.transcribe import pieces
from llm.interfaces import Finished, Prompt, ReplyPart, ToolCall
from speech.interfaces import RATE
from tests.fakes import FakeEngines, failing

KEY = "sk-secret"
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
]


class NamedEngines(FakeEngines):
    tts_name = "fake-voice"


class Api:
    """A running app, its engines, and the stock client connected to it."""

    def __init__(self, config: Config | None = None) -> None:
        self.engines = NamedEngines(cost=0.0)
        self.engines.llm.first_token = self.engines.llm.token = 0.0
        self.app = create_app(config or Config(), self._load)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://conch")
        self.client = openai.AsyncOpenAI(
            api_key=KEY,
            base_url="http://conch/v1",
            http_client=self.http,  # type: ignore[arg-type]  # typed for httpx's successor
            max_retries=0,
        )

    async def _load(self, config: Config, progress: Any) -> FakeEngines:
        return self.engines

    async def __aenter__(self) -> Self:
        self._lifespan = self.app.router.lifespan_context(self.app)
        await self._lifespan.__aenter__()
        await self.app.state.loading
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lifespan.__aexit__(None, None, None)
        await self.http.aclose()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api() as api:
        yield api


def calls_add(prompt: Prompt) -> Iterable[ReplyPart]:
    yield ToolCall("call_1", "add", '{"x": 1}')
    yield ToolCall("call_2", "add", "{}")
    yield Finished("tool_calls", 9, 3, 2)


async def test_models_are_listed(api: Api) -> None:
    listed = [model.id async for model in api.client.models.list()]
    assert listed == ["fake", "whisper-base", "fake-voice"]
    assert (await api.client.models.retrieve("fake")).owned_by == "conch"
    with pytest.raises(openai.NotFoundError, match="'gpt-9' does not exist"):
        await api.client.models.retrieve("gpt-9")


async def test_voices_are_listed(api: Api) -> None:
    (voice,) = (await api.http.get("/v1/audio/voices")).json()["data"]
    assert (voice["id"], voice["language"], voice["gender"]) == ("fake", "en-US", "female")


async def test_a_completion(api: Api) -> None:
    done = await api.client.chat.completions.create(
        model="gpt-9",
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hello there"}]},
        ],
    )
    assert done.choices[0].message.content == "you said hello there. that is all."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (10, 4)
    assert [m.role for m in api.engines.llm.prompts[0].messages] == ["system", "user"]
    assert api.engines.llm.free == 4


async def test_a_streamed_completion(api: Api) -> None:
    stream = await api.client.chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "you said hello. that is all."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    assert len({chunk.id for chunk in chunks}) == 1


async def test_tool_calls_whole_and_streamed(api: Api) -> None:
    api.engines.llm.script = calls_add
    request: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "1"}]}
    done = await api.client.chat.completions.create(**request, tools=TOOLS, tool_choice="required")
    calls = done.choices[0].message.tool_calls or []
    assert [(c.id, c.function.arguments) for c in calls if c.type == "function"] == [
        ("call_1", '{"x": 1}'),
        ("call_2", "{}"),
    ]
    assert done.choices[0].message.content is None
    assert done.choices[0].finish_reason == "tool_calls"
    assert api.engines.llm.prompts[0].tool_choice == "required"
    async with api.client.chat.completions.stream(**request, tools=TOOLS) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.tool_calls or []
    assert [c.id for c in streamed] == ["call_1", "call_2"]


async def test_tool_results_reach_the_model(api: Api) -> None:
    function = {"name": "add", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    await api.client.chat.completions.create(
        model="fake",
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": "c", "content": "2"},
        ],
    )
    first, second = api.engines.llm.prompts[0].messages
    assert first.tool_calls == (ToolCall("c", "add", "{}"),)
    assert (second.role, second.tool_call_id, second.content) == ("tool", "c", "2")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"messages": []}, "length >= 1"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "pirate"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 3}, "temperature"),
        (
            {
                "messages": [{"role": "user", "content": "x"}],
                "tool_choice": {"type": "function", "function": {"name": "nope"}},
            },
            "'nope'",
        ),
    ],
)
async def test_a_bad_chat_request_is_told_what_is_wrong(
    api: Api, body: dict[str, Any], reason: str
) -> None:
    answer = await api.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert reason in answer.json()["error"]["message"]


async def test_bodies_that_are_no_json_or_too_large(api: Api) -> None:
    answer = await api.http.post("/v1/chat/completions", content=b"\xff{")
    assert answer.status_code == 400
    answer = await api.http.post("/v1/audio/speech", content=b"x" * 70_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    answer = await api.http.post("/v1/audio/speech", content=endless())
    assert answer.status_code == 413


async def test_a_broken_model_before_and_in_the_reply(api: Api) -> None:
    api.engines.llm.script = failing
    request: Any = {"model": "fake", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(openai.InternalServerError, match="out of order"):
        await api.client.chat.completions.create(**request)
    stream = await api.client.chat.completions.create(**request, stream=True)
    with pytest.raises(openai.APIError, match="out of order"):
        async for _ in stream:
            pass
    assert api.engines.llm.free == 4


async def test_a_busy_model_is_said_to_be_busy(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.http_chat._PATIENCE", 0.01)
    api.engines.llm.first_token = 60.0
    request: Any = {"model": "fake", "messages": [{"role": "user", "content": "x"}]}
    waiting = asyncio.create_task(api.client.chat.completions.create(**request))
    while api.engines.llm.free == 4:  # noqa: ASYNC110  # the fake tells nobody
        await asyncio.sleep(0)
    with pytest.raises(openai.RateLimitError, match="another request"):
        await api.client.chat.completions.create(**request)
    waiting.cancel()
    await asyncio.wait([waiting])
    api.engines.llm.first_token = 0.0
    assert (await api.client.chat.completions.create(**request)).choices


async def test_a_client_that_leaves_stops_the_work(api: Api) -> None:
    """Driven without a client library, which would not let the test see the server's end."""
    api.engines.llm.first_token = 60.0
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": body}])

    async def receive() -> Any:
        if (message := next(messages, None)) is not None:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "query_string": b"",
    }
    request = asyncio.ensure_future(api.app(scope, receive, send))
    while api.engines.llm.free == 4:  # noqa: ASYNC110  # the fake tells nobody
        await asyncio.sleep(0)
    gone.set()
    await asyncio.wait_for(request, 10)
    assert api.engines.llm.free == 4


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus", "pcm"])
async def test_speech_in_every_format(api: Api, name: Any) -> None:
    answer = await api.client.audio.speech.create(
        model="tts-1", voice="nobody", input="one two three", response_format=name, speed=4
    )
    if name == "pcm":
        samples = np.frombuffer(answer.content, np.int16).astype(np.float32) / np.float32(32767)
    else:
        samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        assert rate == (OUTPUT_RATE if name != "opus" else rate)
    seconds = len(samples) / OUTPUT_RATE
    assert seconds == pytest.approx(0.8, abs=0.1)
    if name in {"wav", "flac", "pcm"}:
        assert api.engines.code.text(samples, OUTPUT_RATE) == "one two three"


async def test_speech_is_resampled_for_clients(api: Api) -> None:
    api.engines.synthesizer.sample_rate = 22_050
    answer = await api.client.audio.speech.create(
        model="tts-1", voice="nobody", input="one two three", response_format="pcm"
    )
    samples = np.frombuffer(answer.content, np.int16).astype(np.float32) / np.float32(32767)
    assert len(samples) / OUTPUT_RATE == pytest.approx(0.8, abs=0.01)
    assert api.engines.code.text(samples, OUTPUT_RATE) == "one two three"


async def test_a_bad_speech_request_or_voice(api: Api) -> None:
    for body in ({"input": "x" * 5000}, {"input": "x", "response_format": "midi"}, {}):
        assert (await api.http.post("/v1/audio/speech", json=body)).status_code == 400
    api.engines.synthesizer.broken = True
    for format_ in ("pcm", "mp3"):
        body = {"input": "x", "response_format": format_}
        answer = await api.http.post("/v1/audio/speech", json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")


def recording(api: Api, text: str, rate: int = 24_000) -> tuple[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, api.engines.code.audio(text, rate), rate, format="WAV")
    return "call.wav", file.getvalue()


async def test_a_transcription_in_every_format(api: Api) -> None:
    transcriptions = api.client.audio.transcriptions
    file = recording(api, "hello there")
    assert (await transcriptions.create(model="whisper-1", file=file)).text == "hello there"
    text = await transcriptions.create(model="whisper-1", file=file, response_format="text")
    assert text == "hello there\n"
    verbose = await transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json", language="de"
    )
    assert (verbose.text, verbose.language) == ("hello there", "de")
    assert verbose.duration == pytest.approx(0.55, abs=0.02)
    vtt = await transcriptions.create(model="whisper-1", file=file, response_format="vtt")
    assert str(vtt).startswith("WEBVTT")


async def test_a_long_recording_is_recognised_piece_by_piece(api: Api) -> None:
    words = [f"w{number}" for number in range(35)] * 6
    file = recording(api, " ".join(words))
    found = await api.client.audio.transcriptions.create(model="whisper-1", file=file)
    assert found.text.split() == words
    assert api.engines.recognizer.decodes > 1


def test_pieces_are_cut_where_it_is_quiet_and_lose_nothing() -> None:
    audio = np.ones(60 * RATE, np.float32)
    audio[20 * RATE : 21 * RATE] = 0.001
    cut = list(pieces(audio))
    assert 20 <= len(cut[0]) / RATE <= 21
    assert max(map(len, cut)) <= 30 * RATE
    assert np.array_equal(np.concatenate(cut), audio)


async def test_what_is_no_recording_is_refused(api: Api) -> None:
    transcriptions = api.client.audio.transcriptions
    with pytest.raises(openai.BadRequestError, match="expected a wav, flac, mp3 or ogg file"):
        await transcriptions.create(model="whisper-1", file=("x.wav", b"noise"))
    with pytest.raises(openai.BadRequestError, match="'yaml'"):
        await transcriptions.create(
            model="whisper-1",
            file=recording(api, "x"),
            response_format="yaml",  # type: ignore[call-overload]
        )
    answer = await api.http.post("/v1/audio/transcriptions", data={"model": "x"})
    assert answer.json()["error"]["param"] == "file"
    answer = await api.http.post("/v1/audio/transcriptions", content=b"x")
    assert answer.status_code == 400


async def test_a_key_is_asked_for_everywhere_but_on_health_and_page() -> None:
    async with Api(Config(server=ServerConfig(api_key=Secret(KEY)))) as api:
        assert (await api.http.get("/healthz")).status_code == 200
        assert (await api.http.get("/")).status_code == 200
        for headers in ({}, {b"Authorization": b"Bearer wrong"}, {b"api-key": b"wr\xf6ng"}):
            answer = await api.http.get("/v1/models", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert KEY not in answer.text
        assert (await api.http.get("/v1/models", headers={"api-key": KEY})).status_code == 200
        assert [model.id async for model in api.client.models.list()]


async def test_without_a_key_other_web_pages_are_kept_out(api: Api) -> None:
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8470", 200),
        ("http://[::1]:8470", 200),
    ):
        answer = await api.http.get("/v1/models", headers={"Origin": origin})
        assert answer.status_code == status, origin


async def test_the_page_loads_nothing_from_elsewhere(api: Api) -> None:
    page = await api.http.get("/")
    assert "<title>Conch</title>" in page.text
    for path in ("/", "/page.js"):
        headers = (await api.http.get(path)).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self';"
        )
        assert headers["x-content-type-options"] == "nosniff"
    assert (await api.http.get("/nope.js")).status_code == 404
    assert (await api.http.get("/..%2fserver.py")).status_code == 404
