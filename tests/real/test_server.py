"""The whole server with a mixture of experts: what it says, it hears; what it is asked, it
answers."""

from __future__ import annotations

import httpx
import openai
from threadpoolctl import threadpool_info

from assistant.config import Config, LlmConfig, TtsConfig
from assistant.server import create_app

CONFIG = Config(
    llm=LlmConfig(model="conch-moe", temperature=0.0, context=1024),
    tts=TtsConfig(engine="piper"),
)
TEXT = "The morning train was late again. We walked along the river instead."


async def test_speech_is_heard_and_questions_are_answered() -> None:
    app = create_app(CONFIG)
    async with app.router.lifespan_context(app):
        await app.state.loading
        pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
        assert {pool["num_threads"] for pool in pools} == {1}, "they would spin beside the model"
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://conch")
        client = openai.AsyncOpenAI(
            api_key="none",
            base_url="http://conch/v1",
            http_client=http,  # type: ignore[arg-type]  # typed for httpx's successor
        )
        assert (await http.get("/healthz")).json()["tts"] == "piper"
        spoken = await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
        heard = await client.audio.transcriptions.create(
            model="whisper-1", file=("speech.mp3", spoken.content), response_format="verbose_json"
        )
        assert heard.text.strip() == TEXT
        assert heard.segments is not None
        assert [segment.text for segment in heard.segments] == TEXT.replace(". ", ".|").split("|")
        assert 0 <= heard.segments[0].end <= heard.segments[1].start <= heard.duration
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            stream=True,
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert "Paris" in text
        await http.aclose()
