"""Pipecat's OpenAI realtime service in a pipeline whose transport has no network. See caller.py."""

from __future__ import annotations

import asyncio
import sys

from caller import RATE, Caller, run
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    CancelFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMRunFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

_UNDERRUN = 0.5
"""Seconds by which a frame may come late and still follow the one before without a gap."""
WEATHER = FunctionSchema(
    name="weather",
    description="The weather in a city.",
    properties={"city": {"type": "string"}},
    required=["city"],
)


class Microphone(BaseInputTransport):
    def __init__(self, params: TransportParams, caller: Caller) -> None:
        super().__init__(params)
        self._caller = caller
        self._speaking: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    def begin(self) -> None:
        self._speaking = asyncio.create_task(self._caller.speak(self._push))

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        if self._speaking:
            self._speaking.cancel()

    async def _push(self, pcm: bytes) -> None:
        await self.push_audio_frame(InputAudioRawFrame(pcm, RATE, 1))


class Loudspeaker(BaseOutputTransport):
    """Plays in real time, as the transports with a network do."""

    def __init__(self, params: TransportParams, caller: Caller) -> None:
        super().__init__(params)
        self._caller = caller
        self._until = 0.0
        """Loop time at which what was written so far has been played."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self._caller.plays(frame.audio)
        now = asyncio.get_running_loop().time()
        if now - self._until > _UNDERRUN:
            self._until = now
        self._until += len(frame.audio) / 2 / RATE
        await asyncio.sleep(self._until - now)
        return True


class Ear(FrameProcessor):
    """Sees what passes behind the loudspeaker."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._caller.stopped(interrupted=True)
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._caller.stopped(interrupted=False)
        await self.push_frame(frame, direction)


async def hold(url: str, caller: Caller) -> None:
    async def weather(params: FunctionCallParams) -> None:
        caller.call.asked.append(params.arguments["city"])
        await params.result_callback("rain")

    service = OpenAIRealtimeLLMService(
        api_key="x",
        base_url=url,
        settings=OpenAIRealtimeLLMService.Settings(system_instruction="Be kind."),
    )
    service.register_function("weather", weather)
    greeting = {"role": "developer", "content": "Say hello!"}
    context = LLMContext([greeting], ToolsSchema(standard_tools=[WEATHER]))
    user, assistant = LLMContextAggregatorPair(context)
    params = TransportParams(audio_in_enabled=True, audio_out_enabled=True)
    microphone = Microphone(params, caller)
    stages = [
        microphone,
        user,
        service,
        Loudspeaker(params, caller),
        Ear(caller),
        assistant,
    ]
    rates = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    worker = PipelineWorker(Pipeline(stages), params=rates)

    @worker.event_handler("on_pipeline_error")
    async def on_pipeline_error(_worker: PipelineWorker, frame: ErrorFrame) -> None:
        caller.call.errors.append(frame.error)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    # As in its examples: the context, its tools with it, goes to the server with a first reply.
    await worker.queue_frames([LLMRunFrame()])
    await caller.finished.wait()
    caller.finished.clear()
    microphone.begin()
    await caller.finished.wait()
    await asyncio.sleep(0.3)
    for message in context.get_messages():
        if isinstance(message, dict) and message.get("role") in {"user", "assistant"}:
            caller.call.history.append((str(message["role"]), str(message.get("content"))))
    await worker.cancel()
    await running


logger.remove()
logger.add(sys.stderr, level="WARNING")
run(hold)
