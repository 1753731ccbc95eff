"""LiveKit's agents with their OpenAI realtime plugin, without a room. See caller.py."""

from __future__ import annotations

import asyncio
import time

from caller import RATE, Caller, run
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.utils.aio import Chan
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from livekit.plugins import openai


class Microphone(AudioInput):
    def __init__(self) -> None:
        super().__init__(label="caller")
        self._frames: Chan[rtc.AudioFrame] = Chan()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.__anext__()

    async def push(self, pcm: bytes) -> None:
        self._frames.send_nowait(rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2))


class Loudspeaker(AudioOutput):
    """Plays in real time, as a room does: what is pushed at once takes its time to be heard."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(label="caller", capabilities=AudioOutputCapabilities(pause=False))
        self._caller = caller
        self._began = self._pushed = 0.0
        self._end: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._pushed:
            self._began = self._loop.time()
            self.on_playback_started(created_at=time.time())  # noqa: TID251  # what it takes
        self._pushed += frame.duration
        self._caller.plays(bytes(frame.data.cast("b")))

    def flush(self) -> None:
        super().flush()
        if self._pushed:
            when = self._began + self._pushed
            self._end = self._loop.call_at(when, self._over, False)

    def clear_buffer(self) -> None:
        if self._pushed:
            self._over(True)

    def _over(self, interrupted: bool) -> None:
        if self._end:
            self._end.cancel()
        position = min(self._pushed, self._loop.time() - self._began)
        self._pushed = 0.0
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


async def hold(url: str, caller: Caller) -> None:
    @function_tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        caller.call.asked.append(city)
        return "rain"

    def over(speech: SpeechHandle) -> None:
        caller.stopped(interrupted=speech.interrupted)

    base_url = url.replace("ws", "http", 1).removesuffix("/realtime")
    model = openai.realtime.RealtimeModel(base_url=base_url, api_key="x")
    microphone = Microphone()
    # By default it is deaf for the first three seconds of its first reply.
    async with AgentSession(llm=model, aec_warmup_duration=None) as session:
        session.input.audio = microphone
        session.output.audio = Loudspeaker(caller)
        session.on("error", lambda event: caller.call.errors.append(str(event.error)))
        # Not the loudspeaker's word: what was pushed may just have been played when it is stopped.
        session.on("speech_created", lambda event: event.speech_handle.add_done_callback(over))
        await session.start(Agent(instructions="Be kind.", tools=[weather]))
        speaking = asyncio.create_task(caller.speak(microphone.push))
        await caller.finished.wait()
        await asyncio.sleep(0.3)
        speaking.cancel()
        for item in session.history.items:
            if item.type == "message":
                caller.call.history.append((item.role, item.text_content or ""))
    await model.aclose()


run(hold)
