"""Performs a scenario in a call of its own with a real server."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator, default_rng

from assistant.clients.timeline import kept
from assistant.clients.wav import RATE, CallError, WavCaller
from duplex import noises
from duplex.lines import Spoken, as_pcm, scaled, spoken
from duplex.scenario import VOICES, Book, Cue, Kind, Scenario, script
from duplex.take import AUDIO, COMMITTED, DONE, UNDERSTOOD, Sounded, Take
from speech.interfaces import Audio, Pcm

INSTRUCTIONS = "You are on a voice call. Answer in one or two short spoken sentences."
_ECHO_DB = -12.0
_REPLY_LIMIT = 30.0
_ANSWER_LIMIT = 8.0
_SETTLED = 2.5
"""Seconds after a sound in which a turn could still come of it."""
_REPLY_SETTLED = 1.0
"""The same after the last of a reply."""
_EDGE = 0.01
"""Seconds of near silence at both ends of a spoken line."""
CROWD = (
    ("My neighbour grows the most wonderful tomatoes on her balcony.", "af_heart"),
    ("The bus was late again, so we walked all the way home.", "am_michael"),
    ("I think they moved the meeting to Thursday afternoon.", "bf_emma"),
    ("He never told me where he bought that old bicycle.", "bm_lewis"),
    ("We should really paint the kitchen before the winter.", "am_puck"),
    ("She said the soup needed a little more salt and pepper.", "bf_emma"),
)
"""Who babbles, and what."""


class VoidError(Exception):
    """The assistant did not give what the scenario needs, such as a reply that is long enough."""


class _Playing:
    """A sound in the room, from the moment that the microphone first asks for it."""

    def __init__(self, pcm: Pcm) -> None:
        self.begins: int | None = None
        self._pcm = pcm

    def __call__(self, at: int, count: int) -> Pcm:
        if self.begins is None:
            self.begins = at
        part = self._pcm[at - self.begins : at - self.begins + count]
        return np.pad(part, (0, count - len(part)))


def needed(book: Book) -> set[tuple[str, str]]:
    """The (text, voice) of every line that must have been spoken before."""
    lines: set[tuple[str, str]] = set()
    for scenario in book.scenarios:
        for cue in scenario.cues:
            if cue.noise == "babble":
                lines.update(CROWD)
            if cue.say:
                lines.add((script(cue.say).text, scenario.voice))
            if cue.other:
                lines.add((cue.other, _neighbour(scenario)))
    return lines


async def perform(url: str, api_key: str, kind: Kind, book: Book, scenario: Scenario) -> Take:
    """Raises CallError, and VoidError where the call was no test of anything."""
    session = {
        "instructions": INSTRUCTIONS,
        "audio": {
            "input": {"turn_detection": {"type": "semantic_vad", "eagerness": book.eagerness}}
        },
    }
    take = Take(kind, scenario)
    async with WavCaller(url, api_key, session) as caller:
        take.began = asyncio.get_running_loop().time() - caller.now
        take.session = caller.events[0][1]["session"]["id"]
        if scenario.echo_ms:
            caller.around.append(_echo(caller, scenario.echo_ms))
        begin = await _first_reply(caller, book, scenario) if scenario.reply else 0.0
        take.events = caller.events
        for cue in scenario.cues:
            await asyncio.sleep(begin + cue.at - caller.now)
            if scenario.reply:
                await _sounding(caller, take)
            take.cues.append(await _sound(caller, scenario, cue))
        await _aftermath(caller, take)
        # Where the assistant was asked nothing first, a reply that was cut off was itself a cut-in.
        if take.reply and (caller.speaker.cuts or take.status(take.reply) == "cancelled"):
            take.kept = await kept(caller, take.reply)
    speaker = caller.speaker
    take.played, take.gaps, take.cuts = speaker.played, speaker.gaps, speaker.cuts
    take.microphone = caller.recording()[:, 0]
    return take


async def _first_reply(caller: WavCaller, book: Book, scenario: Scenario) -> float:
    """Ask in writing; when the reply's first sample is played."""
    content = [{"type": "input_text", "text": scenario.reply}]
    item = {"type": "message", "role": "user", "content": content}
    await caller.send({"type": "conversation.item.create", "item": item})
    limits = {"max_output_tokens": book.reply_tokens}
    await caller.send({"type": "response.create", "response": limits})
    await caller.wait_for(AUDIO, _REPLY_LIMIT)
    return caller.speaker.played[0].start / RATE


async def _sounding(caller: WavCaller, take: Take) -> None:
    """Wait until the reply is heard, should it have run dry. Raises VoidError when it was over;
    where it was cut off the scenario goes on, since that shows something."""

    def heard() -> bool:
        return caller.speaker.end > (caller.now + _EDGE) * RATE

    await caller.until(lambda: heard() or bool(take.of(DONE)), _REPLY_LIMIT)
    if not heard() and take.status(take.reply) != "cancelled":
        raise VoidError(f"the reply was over after {caller.speaker.end / RATE:.1f} s of the call")


async def _sound(caller: WavCaller, scenario: Scenario, cue: Cue) -> Sounded:
    """Make a cue heard, to its end."""
    if cue.say:
        line = spoken(script(cue.say), scenario.voice)
        utterance = caller.say(line.pcm)
        await utterance.said.wait()
        return _said(cue, line, utterance.start, utterance.end)
    random = default_rng(zlib.crc32(f"{scenario.name} {cue.at}".encode()))
    pcm = as_pcm(scaled(_room(random, scenario, cue), cue.level_db))
    playing = _Playing(pcm)
    caller.around.append(playing)
    await asyncio.sleep(len(pcm) / RATE + 0.05)
    start = (playing.begins or 0) / RATE
    return Sounded(cue, start, start + len(pcm) / RATE)


def _said(cue: Cue, line: Spoken, start: float, end: float) -> Sounded:
    pauses = tuple((start + begin, start + over) for begin, over in line.pauses)
    return Sounded(cue, start + _EDGE, end, pauses, line.pcm)


def _room(random: Generator, scenario: Scenario, cue: Cue) -> Audio:
    match cue.noise:
        case "cough":
            return noises.cough(random)
        case "door":
            return noises.door(random)
        case "keyboard":
            return noises.keyboard(random)
        case "babble":
            return noises.babble(random, [_voice(*line) for line in CROWD])
    return noises.far(random, _voice(cue.other, _neighbour(scenario)))


def _voice(text: str, voice: str) -> Audio:
    return spoken(script(text), voice).pcm.astype(np.float32)


def _neighbour(scenario: Scenario) -> str:
    """Whose voice is in the caller's room."""
    return VOICES[VOICES.index(scenario.voice) - 1]


def _echo(caller: WavCaller, delay_ms: int) -> Callable[[int, int], Pcm]:
    delay, gain = delay_ms * RATE // 1000, 10 ** (_ECHO_DB / 20)

    def heard(at: int, count: int) -> Pcm:
        return (caller.speaker.sound(at - delay, count) * gain).astype(np.int16)

    return heard


async def _aftermath(caller: WavCaller, take: Take) -> None:
    """Wait for what follows from the cues: an answer, or that nothing does."""
    last = max((cue.end for cue in take.cues), default=0.0)
    if take.kind.takes_floor:
        # A commit comes no sooner than the words' end, an answer no sooner than the commit.
        await caller.until(lambda: _answered(take, last), last + _ANSWER_LIMIT - caller.now)
        return
    if take.scenario.reply:
        over = await caller.until(lambda: bool(take.of(DONE)), _REPLY_LIMIT)
        if not over:
            raise CallError(f"expected the reply to be over within {_REPLY_LIMIT:g} s")
        await caller.played_out()
        last = max(last, caller.now - _SETTLED + _REPLY_SETTLED)
    await asyncio.sleep(max(0.0, last + _SETTLED - caller.now))


def _answered(take: Take, after: float) -> bool:
    committed = take.of(COMMITTED, after)
    if not committed or not take.of(UNDERSTOOD, after):
        return False
    return bool(take.delivered(after=committed[0][0]))
