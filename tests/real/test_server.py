"""The whole server with a mixture of experts: what it says, it hears; what it is asked, it
answers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
from threadpoolctl import threadpool_info

from assistant.config import Config, LlmConfig, ServerConfig, TtsConfig
from assistant.server import create_app
from tests.loopback import serving

CONFIG = Config(
    llm=LlmConfig(model="conch-moe", temperature=0.0, context=1024),
    tts=TtsConfig(engine="piper"),
)
TOPICS = (
    "bicycles", "clocks", "mountains", "violins", "gardens", "night trains", "lighthouses", "bees",
    "maps", "libraries", "harbours", "kites", "forests", "radio plays", "old coins", "pottery",
)  # fmt: skip
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


async def test_what_was_told_long_ago_is_known_when_it_is_asked_for() -> None:
    config = Config(server=ServerConfig(port=0), llm=CONFIG.llm, tts=CONFIG.tts)
    told = "My dog is called Biscuit, and he sleeps on the sofa."
    async with serving(None, config) as server:
        client = openai.AsyncOpenAI(base_url=f"http://{server.host}/v1", api_key="none")
        extended: Any = {"ext": "conch.1"}
        async with client.realtime.connect(model="gpt", extra_query=extended) as connection:

            async def say(role: str, text: str) -> None:
                part = {"type": "output_text" if role == "assistant" else "input_text"}
                item: Any = {"type": "message", "role": role, "content": [{**part, "text": text}]}
                await connection.conversation.item.create(item=item)

            async def ask(text: str) -> str:
                await say("user", text)
                await connection.response.create(response={"output_modalities": ["text"]})
                async for event in connection:
                    if event.type == "response.done":
                        return str(event.response.output[0].content[0].text)
                return ""

            await say("user", told)
            for topic in TOPICS:
                await say("assistant", f"That is good to hear. There is much to say about {topic}.")
                await say("user", f"Let us talk about {topic}. My neighbour knows a lot of them.")
            await ask("What is the capital of France?")
            line: Any = next(iter(server.service.calls))
            conversation = line.call.memory.conversation
            async with asyncio.timeout(60):
                while not conversation.window.first:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.2)
            assert told not in str(conversation.latest())
            assert "Biscuit" in await ask("What is the name of my dog?")
        await client.close()
