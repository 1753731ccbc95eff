"""Ask a language model where sentences end: fills `ends` in scripts/endpointing.csv.gz.

The product asks the same of its engine at a pause (LanguageModel.prefill), after the call so far. Run it after
make_endpointing.py and before fit_endpointing.py.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
from dataclasses import replace

from rich.progress import track

from assistant.config import Config, LlmConfig
from assistant.engines import load_language_model
from llm.interfaces import Message, Prompt
from make_endpointing import TABLE, Row, write

MODEL = "conch-moe"
"""The default; others are read by the same weights."""


def rows() -> list[Row]:
    with gzip.open(TABLE, "rt", encoding="utf-8", newline="") as lines:
        # Every field as it is written: nothing else of the table changes.
        return [Row(**{"ends": "", **row}) for row in csv.DictReader(lines)]  # type: ignore[arg-type]


async def main() -> None:
    config = Config(llm=LlmConfig(model=MODEL))
    engine = load_language_model(config)
    model = engine.open()
    instructions = Message("system", config.call.instructions)
    table = rows()
    ends = {}
    # What was asked comes before it, as in a call: "six" is no whole sentence, but an answer.
    for asked, said in track(sorted({(row.asked, row.heard) for row in table if _read(row)})):
        before = (instructions, Message("assistant", asked)) if asked else (instructions,)
        ends[asked, said] = await model.prefill(Prompt((*before, Message("user", said))))
    await model.close()
    await engine.aclose()
    found = {pair: "" if p is None else f"{p:.4f}" for pair, p in ends.items()}
    write([replace(row, ends=found.get((row.asked, row.heard), "")) for row in table])


def _read(row: Row) -> bool:
    """Whether there are words whose end is asked for."""
    return bool(row.heard) and row.kind != "sound"


if __name__ == "__main__":
    asyncio.run(main())
