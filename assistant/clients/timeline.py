"""What happened in a recorded call, turn by turn, from the events that the caller collected."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from assistant.clients.wav import RATE, WavCaller


@dataclass
class Turn:
    """One reply and what it answers. Times are seconds of the call."""

    item_id: str
    status: str = "in_progress"
    caller: str = ""
    """What the server understood."""
    reply: str = ""
    """What was sent as the reply's transcript."""
    heard: str = ""
    """What the server keeps of it as heard."""
    caller_end: float | None = None
    """Last sample of the caller's speech before the reply."""
    first_audio: float | None = None
    """First sample of the reply delivered."""
    played: float = 0.0
    """Seconds of the reply that the loudspeaker played."""
    timing_ms: dict[str, int] = field(default_factory=dict)
    """The parts of the latency, as the server measured them."""

    @property
    def latency(self) -> float | None:
        """Voice to voice, in seconds."""
        if self.caller_end is None or self.first_audio is None:
            return None
        return self.first_audio - self.caller_end


async def turns(caller: WavCaller) -> list[Turn]:
    """The call's replies; asks the server what was heard of each, so it must be connected."""
    found: dict[str, Turn] = {}
    understood: list[str] = []
    for at, event in caller.events:
        match event["type"]:
            case "conversation.item.input_audio_transcription.completed":
                understood.append(event["transcript"])
            case "response.output_audio.delta":
                _begin(found, caller, event["item_id"], at, understood)
            case "response.output_audio_transcript.done" if event["item_id"] in found:
                found[event["item_id"]].reply = event["transcript"]
            case "response.done":
                _finish(found, event)
    for turn in found.values():
        parts = caller.speaker.played
        turn.played = sum(len(p.pcm) for p in parts if p.item_id == turn.item_id) / RATE
        turn.heard = await kept(caller, turn.item_id)
    return list(found.values())


def save(caller: WavCaller, found: list[Turn], wav: Path, timeline: Path) -> None:
    """Write the stereo recording and the JSON timeline."""
    soundfile.write(wav, caller.recording(), RATE)
    document = {
        "sample_rate": RATE,
        "channels": ["caller", "assistant"],
        "turns": [{**asdict(turn), "latency": turn.latency} for turn in found],
        "utterances": [{"start": u.start, "end": u.end} for u in caller.utterances],
        "gaps": [{"at": at, "seconds": seconds} for at, seconds in caller.speaker.gaps],
        "events": [{"at": round(at, 4), **event} for at, event in caller.events],
    }
    timeline.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _begin(
    found: dict[str, Turn], caller: WavCaller, item_id: str, at: float, understood: list[str]
) -> None:
    if item_id not in found:
        ends = [u.end for u in caller.utterances if 0 <= u.end <= at]
        end = max(ends) if ends else None
        text = " ".join(understood)
        found[item_id] = Turn(item_id, caller=text, caller_end=end, first_audio=at)
        understood.clear()


def _finish(found: dict[str, Turn], event: dict[str, Any]) -> None:
    for item in event["response"]["output"]:
        if turn := found.get(item["id"]):
            turn.status = event["response"]["status"]
            turn.timing_ms = event.get("conch", {}).get("timing_ms", {})


async def kept(caller: WavCaller, item_id: str) -> str:
    """What the server keeps of a reply as heard."""
    await caller.send({"type": "conversation.item.retrieve", "item_id": item_id})
    item: dict[str, Any] = {}
    while item.get("id") != item_id:  # others may be asked for too
        item = (await caller.wait_for("conversation.item.retrieved", 5))["item"]
    content = item["content"]
    return "".join(part.get("transcript") or part.get("text") or "" for part in content)
