"""`conch kiosk`: a device that sleeps until its wake word, or its button, and then holds a call.

Asleep it has no connection at all. Every 20 ms of the room go one way: the loudspeaker and the
noise are taken out, and what is left goes to the wake word or, in a call, to the server. What
happens when is decided in kiosk_states.py; this carries it out. No torch and no server model is
imported here: it has to fit a small board.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from assistant.clients.cleaner import Cleaner
from assistant.clients.earcons import earcon
from assistant.clients.handset import Handset
from assistant.clients.host import StatusCommand, Supervisor, watch_button
from assistant.clients.keys import keys
from assistant.clients.kiosk_states import Act, Heard, Kiosk, Patience, State
from assistant.clients.line import RATE, CallError, Event, Line, address
from assistant.clients.loudspeaker import Loudspeaker
from assistant.clients.soundcard import PortAudioCard, Sound, SoundCard
from assistant.clients.wakeword import WakeWord
from speech.interfaces import Pcm

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further attempt to begin a call."""
_REMEMBERED = 10 * RATE
"""Samples for which what was played is kept."""
_ACTIVE = {
    "input_audio_buffer.speech_started",
    "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.delta",
    "response.created",
    "response.output_audio.delta",
}
_QUIET = {"response.done", "conversation.item.input_audio_transcription.failed"}

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    server: str
    api_key: str = ""
    wake_word: str = "hey_jarvis"
    """Empty: only the button wakes it."""
    button: str = ""
    """`key` for the terminal's Enter key, or a command each of whose lines is a press."""
    status_command: str = ""
    microphone: str = ""
    loudspeaker: str = ""
    patience: Patience = field(default_factory=Patience)


class Attendant:
    """One kiosk: its ears, its loudspeaker and at most one call."""

    def __init__(
        self, settings: Settings, card: Callable[[Sound], SoundCard] | None = None
    ) -> None:
        """`card` makes the sound card, given what the loudspeaker plays; None: PortAudio's.
        Raises CallError for settings that cannot be."""
        self.kiosk = Kiosk(settings.patience)
        self._settings, self._url = settings, address(settings.server)
        self._wake = WakeWord(settings.wake_word) if settings.wake_word else None
        self._cleaner = Cleaner()
        self._chimes = Loudspeaker()
        self._handset: Handset | None = None
        """The call's, while there is one."""
        self._to_play_out = False
        """Whether the floor is open as soon as the loudspeaker is done."""
        self._calls: set[asyncio.Task[None]] = set()
        """The one under way, and those that are being hung up."""
        self._status = StatusCommand(settings.status_command)
        self._supervisor = Supervisor()
        self._card = (
            card(self._sound)
            if card
            else PortAudioCard(self._sound, settings.microphone, settings.loudspeaker)
        )

    async def run(self) -> None:
        """Until cancelled. Raises CallError when the sound card is gone."""
        self._card.open()
        beside = [asyncio.create_task(self._status.run())]
        pressed = lambda: self._receive(Heard.PRESSED)  # noqa: E731
        if self._settings.button not in {"", "key"}:
            beside.append(asyncio.create_task(watch_button(self._settings.button, pressed)))
        self._tell()
        self._supervisor.ready()
        try:
            with keys(self._typed):
                await self._attend()
        finally:
            for task in (*beside, *self._calls):
                task.cancel()
            await asyncio.gather(*beside, *self._calls, return_exceptions=True)
            await self._card.close()

    # --- the room ---------------------------------------------------------------------------

    async def _attend(self) -> None:
        while True:
            block = await self._card.block()
            await self._hear(self._cleaner.clean(block))
            self._follow()
            self._act(self.kiosk.fire(self._now))
            self._supervisor.alive(self._now)

    async def _hear(self, pcm: Pcm) -> None:
        if self._handset:
            await self._handset.line.hear(pcm)
        elif self._wake and self._wake.hear(pcm, self._cleaner.speech):
            _LOG.info("woken by its word")
            self._receive(Heard.WOKEN)

    def _follow(self) -> None:
        """What the loudspeaker has come to by now."""
        at = self._card.position
        if self._handset:
            self._handset.speaker.forget(at - _REMEMBERED)
            if self._to_play_out and at >= self._handset.speaker.end:
                self._to_play_out = False
                self._receive(Heard.QUIET)
        self._chimes.forget(at)

    def _sound(self, start: int, count: int) -> Pcm:
        """The loudspeaker's next samples; on the sound card's thread."""
        chime, handset = self._chimes.sound(start, count), self._handset
        if handset is None:
            return chime
        mixed = chime.astype(np.int32) + handset.speaker.sound(start, count)
        pcm: Pcm = np.clip(mixed, -32768, 32767).astype(np.int16)
        return pcm

    @property
    def _now(self) -> float:
        """Seconds of the loudspeaker: the kiosk's only clock."""
        return self._card.position / RATE

    def _typed(self, key: str) -> None:
        if self._settings.button == "key" and key in "\r\n":
            self._receive(Heard.PRESSED)

    # --- what the state machine says ----------------------------------------------------------

    def _receive(self, heard: Heard) -> None:
        before = self.kiosk.state
        acts = self.kiosk.receive(heard, self._now)
        if self.kiosk.state is not before:
            _LOG.info("%s: %s", heard.value, self.kiosk.state.value)
            self._tell()
        self._act(acts)

    def _act(self, acts: tuple[Act, ...]) -> None:
        for act in acts:
            if (pcm := earcon(act)) is not None:
                self._chimes.play(act.value, pcm, self._card.position)
            elif act is Act.DIAL:
                self._dial()
            elif act is Act.HANG_UP:
                self._hang_up()
        if acts and self.kiosk.state is State.ASLEEP:
            self._tell()

    def _tell(self) -> None:
        self._status.tell(self.kiosk.state.value)
        self._supervisor.status(self.kiosk.state.value)

    # --- the call -----------------------------------------------------------------------------

    def _dial(self) -> None:
        line = Line(self._url, self._settings.api_key, changed=self._changed)
        self._handset = Handset(line, lambda: self._card.position)
        self._handset.latency = self._card.latency
        self._to_play_out = False
        call = asyncio.create_task(self._hold(self._handset))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def _hang_up(self) -> None:
        self._handset = None
        if self._wake:
            self._wake.forget()
        for call in self._calls - {asyncio.current_task()}:
            call.cancel()

    def _changed(self, up: bool) -> None:
        self._receive(Heard.BACK if up else Heard.DROPPED)

    async def _hold(self, handset: Handset) -> None:
        try:
            await _begin(handset.line)
        except CallError as error:
            return self._lost(error)
        reporting = asyncio.create_task(handset.report())
        try:
            async for event in handset.events():
                self._note(event)
        except CallError as error:
            self._lost(error)
        finally:
            reporting.cancel()
            await handset.line.close()

    def _note(self, event: Event) -> None:
        if event["type"] in _ACTIVE:
            self._to_play_out = False
            self._receive(Heard.ACTIVE)
        elif event["type"] in _QUIET:
            self._to_play_out = True
        elif event["type"] == "error":
            _LOG.warning("the server says: %s", event["error"].get("message"))

    def _lost(self, error: CallError) -> None:
        _LOG.warning("%s", error)
        self._receive(Heard.LOST)


async def _begin(line: Line) -> None:
    """Open the line, patiently. Raises CallError."""
    for pause in _PAUSES:
        try:
            return await line.open()
        except CallError as error:
            _LOG.warning("%s; once more in %g s", error, pause)
            await asyncio.sleep(pause)
    return await line.open()


async def run(settings: Settings) -> None:
    """Until SIGINT or SIGTERM. Raises CallError."""
    command = shlex.split(settings.button)
    if settings.button != "key" and command and not shutil.which(command[0]):
        raise CallError(f"expected a command for the button, got {command[0]}")
    attendant = Attendant(settings)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task and task.cancel())
    with suppress(asyncio.CancelledError):
        await attendant.run()
