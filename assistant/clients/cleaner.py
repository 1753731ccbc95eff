"""The loudspeaker and the noise out of the microphone: WebRTC's audio processing (AEC3, NS)."""

from __future__ import annotations

from pywebrtc_audio import AudioProcessor

from assistant.clients.line import RATE
from assistant.clients.soundcard import Block
from speech.interfaces import Pcm

_NOISE_LEVEL = 1
"""12 dB of noise suppression: more of it costs the recogniser words."""


class Cleaner:
    """One room. Its echo path is learned from the first second that the loudspeaker plays."""

    def __init__(self) -> None:
        self._apm = AudioProcessor(
            sample_rate=RATE,
            echo_cancellation=True,
            noise_suppression=True,
            high_pass_filter=True,
            ns_level=_NOISE_LEVEL,
        )

    def clean(self, block: Block) -> Pcm:
        """What was heard of the room without what was played into it, of the block's shape."""
        return self._apm.process(block.heard, block.played)

    @property
    def speech(self) -> float:
        """P(speech) of the block that was cleaned last."""
        return float(self._apm.speech_probability)
