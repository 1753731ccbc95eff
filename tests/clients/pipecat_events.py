"""Reads server events, a line each, as Pipecat does; prints those that it cannot, and how many it
could."""

from __future__ import annotations

import sys

from pipecat.services.openai.realtime.events import parse_server_event


def main() -> None:
    count = 0
    for line in sys.stdin:
        try:
            parse_server_event(line)
        except Exception as error:  # noqa: BLE001  # it raises nothing more exact
            sys.stdout.write(f"{error}\n")
        else:
            count += 1
    sys.stdout.write(f"{count} read\n")


main()
