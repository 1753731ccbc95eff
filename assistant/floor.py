"""What the turn manager is told, what it answers, and the numbers by which it decides.

Events are facts with the time at which they are true; commands are for the session to carry
out. Reply-side ones carry the reply's number, answers about a pause the pause's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers behind the decisions, all in seconds of silence or speech."""

    complete: float = 0.3
    """Silence after which a turn that sounds complete is committed."""
    incomplete: float = 1.5
    """The same for one that does not."""
    complete_probability: float = 0.5
    """Endpointer score from which a turn sounds complete."""
    semantic: bool = True
    """Ask the endpointer; False: `complete` is the one silence that counts (server_vad)."""
    speculate: bool = True
    """Start a likely reply before the turn is committed."""
    barge_in: float = 0.6
    """Speech of this length over a reply interrupts it, whatever the words."""
    hold: float = 0.8
    """The longest that a reply is held for words that are still being recognised."""
    recognition_timeout: float = 20.0
    lost_speech: float = 1.5
    """Speech at least this long without a recognised word deserves an apology."""
    create_response: bool = True
    interrupt_response: bool = True


# --- events -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    speech: float
    """Seconds of speech so far."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    silence: float
    """Seconds since the last speech."""
    speech: float = 0.0
    """Seconds of speech in the stretch that just ended."""


@dataclass(frozen=True, slots=True)
class EndpointScored:
    pause: int
    probability: float


@dataclass(frozen=True, slots=True)
class Transcribed:
    pause: int
    text: str


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    pause: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The words of the turn under way, all of them so far."""

    text: str
    """Those that will not change."""
    likely: str = ""
    """With those that still may: good enough to read ahead, as a cache forgets wrong ends."""


@dataclass(frozen=True, slots=True)
class ReplyDelivered:
    reply: int


@dataclass(frozen=True, slots=True)
class ReplyFinished:
    """Generated, delivered and played out, or failed after having said so."""

    reply: int


@dataclass(frozen=True, slots=True)
class ReplyRequested:
    """The client's response.create; `request` names it in the StartReply that answers it."""

    request: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    pass


@dataclass(frozen=True, slots=True)
class CommitRequested:
    """The client ends the turn itself, or switches turn detection off."""


@dataclass(frozen=True, slots=True)
class ClearRequested:
    pass


@dataclass(frozen=True, slots=True)
class Configured:
    policy: Policy


Event = (
    SpeechStarted
    | SpeechPaused
    | EndpointScored
    | Transcribed
    | RecognitionFailed
    | Heard
    | ReplyDelivered
    | ReplyFinished
    | ReplyRequested
    | CancelRequested
    | CommitRequested
    | ClearRequested
    | Configured
)

# --- commands -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeginTurn:
    """Keep the caller's audio from the onset of this speech."""

    turn: int


@dataclass(frozen=True, slots=True)
class AnnounceSpeech:
    """Tell the client that the caller took the floor."""

    turn: int


@dataclass(frozen=True, slots=True)
class ScoreEndpoint:
    pause: int


@dataclass(frozen=True, slots=True)
class Transcribe:
    pause: int


@dataclass(frozen=True, slots=True)
class Prefill:
    text: str


@dataclass(frozen=True, slots=True)
class CommitTurn:
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class DiscardTurn:
    turn: int
    reason: str
    announced: bool = False
    """Whether the client knows of it."""


@dataclass(frozen=True, slots=True)
class StartReply:
    reply: int
    speculative: bool = False
    request: str = ""


@dataclass(frozen=True, slots=True)
class Apologise:
    """Instead of a reply: say that the caller was not understood."""

    reply: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class PublishReply:
    reply: int


@dataclass(frozen=True, slots=True)
class DropReply:
    """Forget a speculative reply; nobody has seen it."""

    reply: int


@dataclass(frozen=True, slots=True)
class HoldReply:
    reply: int


@dataclass(frozen=True, slots=True)
class ResumeReply:
    reply: int


@dataclass(frozen=True, slots=True)
class CancelReply:
    reply: int
    reason: str
    """turn_detected or client_cancelled."""


@dataclass(frozen=True, slots=True)
class Refuse:
    code: str


Command = (
    BeginTurn
    | AnnounceSpeech
    | ScoreEndpoint
    | Transcribe
    | Prefill
    | CommitTurn
    | DiscardTurn
    | StartReply
    | Apologise
    | PublishReply
    | DropReply
    | HoldReply
    | ResumeReply
    | CancelReply
    | Refuse
)


# --- what the manager keeps in mind -----------------------------------------------------------


class Phase(enum.Enum):
    """How far the reply under way has come."""

    SPECULATIVE = "speculative"
    LIVE = "live"
    DELIVERED = "delivered"
    """The response is done on the wire; its last audio still plays."""


@dataclass(frozen=True, slots=True)
class Reply:
    number: int
    phase: Phase


@dataclass(slots=True)
class Turn:
    """What is known of the caller's turn under way."""

    number: int
    announced: bool = False
    speech: float = 0.0
    silent_since: float | None = None
    text: str | None = None
    """The words at the latest pause; None until they are recognised."""
    likely_over: bool = False
