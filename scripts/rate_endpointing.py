"""Ask a language model where sentences end: fills `ends` in scripts/endpointing.csv.gz.

The product asks the same of its engine at a pause (LanguageModel.prefill). Run it after
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

MODEL = "qwen2.5-coder-1.5b"
"""It knows best where a sentence may end; smaller ones are read by the same weights."""


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
    texts = sorted({row.heard for row in table if row.heard and row.kind != "sound"})
    ends = {}
    for text in track(texts):
        ends[text] = await model.prefill(Prompt((instructions, Message("user", text))))
    await model.close()
    await engine.aclose()
    found = {text: "" if p is None else f"{p:.4f}" for text, p in ends.items()}
    write([replace(row, ends=found.get(row.heard, "")) for row in table])


if __name__ == "__main__":
    asyncio.run(main())
