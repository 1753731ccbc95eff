"""A kiosk whose microphone hears its loudspeaker: does it interrupt itself, does it hear a caller?

    python scripts/kiosk_echo.py --replies 10 --interruptions 5

The real server, a virtual sound card with the loudspeaker looped back (room.py), the kiosk in a
process of its own: woken by its word, asked one question after the other, then spoken over.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from assistant.clients.caller import demo, questions, wake_words
from assistant.clients.demo import server
from room import Relay, Room, missing, peak_megabytes, relayed, room

_ANSWER_S = 120.0
_NOTICED_S = 1.0
"""Until a caller who speaks over a reply is noticed at most; one that ends sooner was over."""
_SILENCE_S = "6"
"""Until the kiosk hangs up."""
_STARTED = "input_audio_buffer.speech_started"
_UNDERSTOOD = "conversation.item.input_audio_transcription.completed"


async def _until(lights: Path, state: str) -> None:
    """Until that is what the kiosk's light says."""

    def shown() -> list[str]:
        return lights.read_text().split()[-1:]

    async with asyncio.timeout(_ANSWER_S):
        while shown() != [state]:  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.1)


async def _ask(place: Room, relay: Relay, lights: Path, replies: int) -> None:
    asked = questions()[: 3 * replies : 3] if replies <= 10 else questions()[:replies]
    for line in asked:
        begun = len(relay.all(_STARTED))
        done = len(relay.all("response.done"))
        await asyncio.sleep(1)
        await place.say(line.audio())
        status = (await relay.until("response.done", done + 1, _ANSWER_S))["response"]["status"]
        await _until(lights, "open")
        own = len(relay.all(_STARTED)) - begun - 1
        heard = relay.all(_UNDERSTOOD)[-1]["transcript"]
        print(f"{line.text!r} heard as {heard!r}: {status}, interrupted itself {own} times")


async def _interrupt(place: Room, relay: Relay, lights: Path, times: int) -> None:
    """Each in a call of its own: in the same one, a small model tells the story once more up to
    where it was broken off, and no further, so that there is nothing left to speak over."""
    lines, heard, over = demo(), 0, 0
    for _ in range(times):
        await _until(lights, "asleep")
        await asyncio.sleep(1)
        done = len(relay.all("response.done"))
        begun = len(relay.all("response.output_item.added"))
        await place.say(wake_words()[0].audio())
        await asyncio.sleep(1)
        await place.say(lines["story"].audio())
        if not await relay.sounding(begun + 1, 3.0, _ANSWER_S):
            over += 1
            print("the reply was too short to be spoken over")
            await _until(lights, "open")
            continue
        spoke = asyncio.get_running_loop().time()
        await place.say(lines["stop"].audio())
        status = (await relay.until("response.done", done + 1, _ANSWER_S))["response"]["status"]
        ended = relay.times("response.done")[done] - spoke
        await relay.until("response.done", done + 2, _ANSWER_S)
        await _until(lights, "open")
        heard += status == "cancelled"
        over += status == "completed" and ended < _NOTICED_S
        print(
            f"spoken over: {status} {ended:.1f} s after the caller began,"
            f" heard as {relay.all(_UNDERSTOOD)[-1]['transcript']!r}"
        )
    print(f"heard {heard} of {times - over} times; {over} times the reply was over by itself")


async def measure(url: str | None, replies: int, interruptions: int, echo_db: float) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lights = folder / "lights"
        lights.touch()
        async with (
            nullcontext(url) if url else server(Console(quiet=True)) as address,
            relayed(address) as relay,
            room(folder, echo_db) as place,
            place.client(
                folder / "printed", "kiosk", "--server", relay.url, "--silence", _SILENCE_S,
                "--status-command", f"sh -c 'echo $0 >> {lights}'",
            ) as kiosk,
        ):  # fmt: skip
            try:
                await _until(lights, "asleep")
                if replies:
                    await place.say(wake_words()[0].audio())
                await _ask(place, relay, lights, replies)
                await _interrupt(place, relay, lights, interruptions)
            except TimeoutError:
                print(f"the kiosk said:\n{(folder / 'printed').read_text()}")
                raise
            print(f"memory of the kiosk, at most: {peak_megabytes(kiosk):.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="ws://.../v1/realtime of a running server")
    parser.add_argument("--replies", type=int, default=10)
    parser.add_argument("--interruptions", type=int, default=5)
    parser.add_argument("--echo-db", type=float, default=-10.0, help="of the loudspeaker")
    args = parser.parse_args()
    if lacking := missing():
        parser.error(lacking)
    asyncio.run(measure(args.url, args.replies, args.interruptions, args.echo_db))


if __name__ == "__main__":
    main()
