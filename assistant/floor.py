"""What the turn manager is told, what it answers, and the numbers by which it decides.

Events are facts with the time at which they are true; commands are for the session to carry
out. Reply-side ones carry the reply's number, answers about a pause the pause's.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.phrases import PhraseName
from speech.prosody import Prosody


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers behind the decisions, all in seconds of silence or speech."""

    profile: str = "normal"
    """How much silence ends a turn (endpointing.profile); empty: always `silence`."""
    silence: float = 0.5
    """What ends a turn where there is no profile (server_vad)."""
    speculate_within: float = 2.0
    """A turn that pauses and needs no more silence than this has its reply started, unseen."""
    guess_within: float = 2.0
    """The same for words of speech that goes on. With the `normal` profile this takes any settled
    words for a guess: measured with four callers, 1.0 gave 4.4 to 5.1 s instead of 3.3."""
    linger: float = 0.8
    """The longest that a turn which is over waits for its reply, and can be reopened."""
    doubt: float = 0.1
    """What may be the caller going on puts off the end of a turn for as long."""
    barge_in: float = 0.6
    """Speech of this length over a reply, of which no word is recognised yet, interrupts it."""
    hold: float = 0.55
    """The longest that a reply is held while it is open what the speech over it is."""
    idle: float = 0.0
    """Silence on both sides after which the caller is asked whether they are there; 0: never."""
    idle_asks: int = 2
    """How often that is asked until the caller speaks again."""
    tool_wait: float = 0.0
    """Silence after which the caller is told that a tool has not answered yet; 0: never."""
    recognition_timeout: float = 20.0
    lost_speech: float = 3.5
    """Speech at least this long without a recognised word deserves an apology."""
    create_response: bool = True
    interrupt_response: bool = True


# --- events -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    speech: float
    """Seconds of speech so far."""
    below: float = 0.0
    """dB by which it lies under the caller's usual level."""


@dataclass(frozen=True, slots=True)
class SpeechSuspected:
    """The first frame of what may become speech, or is a click."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    silence: float
    """Seconds since the last speech."""
    speech: float = 0.0
    """Seconds of speech in the stretch that just ended."""
    below: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointScored:
    """How the turn's end sounds."""

    pause: int
    probability: float
    """Of the turn being over."""
    prosody: Prosody | None = None


@dataclass(frozen=True, slots=True)
class Transcribed:
    pause: int
    text: str
    confidence: float = 1.0
    echoed: float = 0.0
    """Part of the words that the reply had just said itself."""


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
    quiet: bool = False
    """The caller has just fallen silent: they may be all of the turn."""
    confidence: float = 1.0
    echoed: float = 0.0
    below: float = 0.0


@dataclass(frozen=True, slots=True)
class Rated:
    """How the language model would go on after these words of the turn under way."""

    text: str
    ends: float
    """P(a sentence ends there)."""


@dataclass(frozen=True, slots=True)
class ReplyReady:
    """Its first sound, or all that it says without one, can be sent."""

    reply: int


@dataclass(frozen=True, slots=True)
class ReplyDelivered:
    reply: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReplyFinished:
    """Generated, delivered and played out, or failed after having said so."""

    reply: int


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A reply that speaks needs a tool of the client's."""

    call: str


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    call: str


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
    | SpeechSuspected
    | SpeechPaused
    | EndpointScored
    | Transcribed
    | RecognitionFailed
    | Heard
    | Rated
    | ReplyReady
    | ReplyDelivered
    | ReplyFinished
    | ToolCalled
    | ToolAnswered
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
    why: str = ""


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
    said: str = ""
    """The caller's words that it answers, while they are not yet in the conversation."""


@dataclass(frozen=True, slots=True)
class Say:
    """Instead of a reply: one of the assistant's own sentences (phrases.py)."""

    reply: int
    phrase: PhraseName
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
    why: str = ""


@dataclass(frozen=True, slots=True)
class CancelReply:
    reply: int
    reason: str
    """turn_detected or client_cancelled, as the wire has it."""
    why: str = ""


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
    | Say
    | PublishReply
    | DropReply
    | HoldReply
    | ResumeReply
    | CancelReply
    | Refuse
)
