"""What only a recogniser can tell of a take; it listens when the server has stopped."""

from __future__ import annotations

import os

import numpy as np
import soxr

from assistant.clients.wav import RATE as WIRE
from assistant.config import load_config
from assistant.engines import load_recognizer
from duplex.measures import Probe
from duplex.scenario import Kind, script
from duplex.take import Take
from duplex.words import errors, heard_error, once, right, words
from speech.interfaces import RATE, Pcm

_AROUND = 3 * WIRE // 10
"""Samples of silence at both ends of a line that is recognised alone, as there are in a call."""


class Ear:
    """The server's own recogniser, as the environment configures it."""

    def __init__(self) -> None:
        self._config = load_config(None, os.environ, {})
        self._recognizer = load_recognizer(self._config)

    def add(self, take: Take, found: list[Probe]) -> None:
        """Complete the probes of a take, which come in the order of its cues."""
        if take.kind.takes_floor:
            cue, values = take.cues[0], found[0].values
            said = script(cue.cue.say).text
            alone = self._words(np.pad(cue.pcm, _AROUND))
            understood = take.understood(cue.start)
            values["words"] = float(len(words(said)))
            values["errors"] = float(errors(said, understood))
            values["errors_alone"] = float(errors(said, alone))
            values["errors_more"] = values["errors"] - values["errors_alone"]
            values["right"] = float(right(said, understood, alone))
            if values.get("stopped"):
                recognised = self._words(_played(take))
                written = take.written(take.reply)
                values["heard_error"] = float(heard_error(written, take.kept, recognised))
                found[0].texts = {"kept": take.kept, "recognised": recognised, "written": written}
        elif take.kind is Kind.BACKCHANNELS and all(of.values["survived"] for of in found):
            whole = once(take.written(take.reply), self._words(_played(take)))
            for probe in found:
                probe.values["once"] = float(whole)

    def _words(self, pcm: Pcm) -> str:
        """What is recognised in int16 audio at the wire's rate."""
        if not len(pcm):
            return ""
        audio = soxr.resample(pcm.astype(np.float32) / 32768, WIRE, RATE)
        return self._recognizer.transcribe(audio, language=self._config.asr.language).text


def _played(take: Take) -> Pcm:
    """What the loudspeaker played of the first reply."""
    parts = [part.pcm for part in take.played if part.item_id == take.reply]
    return np.concatenate([np.zeros(0, np.int16), *parts])
