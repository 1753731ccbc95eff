"""Time per token with 4k and with 64k tokens of context: MiniMax's linear attention beside softmax.

Three small random models of one size, which differ in their attention only: all layers linear,
MiniMax-Text-01's own mixture (seven linear layers, then a softmax one), all softmax. Each reads
4096 tokens, a copy of it reads on to 65536, and the two decode by turns, so that whatever else the
machine does slows both. Where all is softmax the long context is not read, which would take
minutes, but the short one's keys and values are repeated: the time for a token depends on how many
there are and not on what they are.

    .venv/bin/python scripts/linear_attention.py
"""

from __future__ import annotations

import copy
from statistics import median
from typing import Any

import torch
import typer
from transformers import AutoModelForCausalLM, MiniMaxConfig

from assistant.metrics import clock
from llm.kvcache import Track

SHORT, LONG = 4096, 65_536
LAYERS = 8
KINDS = {
    "linear": ["linear_attention"] * LAYERS,
    "seven linear, one softmax": ["linear_attention"] * (LAYERS - 1) + ["full_attention"],
    "softmax": ["full_attention"] * LAYERS,
}
_CHUNK = 256
_VOCABULARY = 1024


def build(layer_types: list[str]) -> Any:
    config = MiniMaxConfig(
        vocab_size=_VOCABULARY,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=2,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=2 * LONG,
        layer_types=layer_types,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def read(model: Any, track: Track, upto: int) -> None:
    tokens = torch.randint(_VOCABULARY, (upto - len(track.tokens),)).tolist()
    for at in range(0, len(tokens), _CHUNK):
        track.feed(model, tokens[at : at + _CHUNK])


def lengthen(track: Track, upto: int) -> None:
    """Repeat the keys and values, [1, heads, tokens, head size], of a cache that has only those."""
    times = upto // len(track.tokens)
    for layer in track.cache.layers:
        layer.keys = layer.keys.repeat(1, 1, times, 1)
        layer.values = layer.values.repeat(1, 1, times, 1)
    track.tokens = track.tokens * times


def token_times(model: Any, tracks: list[Track], tokens: int) -> list[float]:
    """The median time, in seconds, of one token of each."""
    times: list[list[float]] = [[] for _ in tracks]
    for _ in range(tokens):
        for track, taken in zip(tracks, times, strict=True):
            begun = clock()
            track.feed(model, [7])
            taken.append(clock() - begun)
    return [median(taken) for taken in times]


def main(tokens: int = 60, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    print(f"{'attention':<28}{'ms at 4k':>10}{'ms at 64k':>11}{'ratio':>8}")
    with torch.inference_mode():
        for name, layer_types in KINDS.items():
            model, short = build(layer_types), Track()
            read(model, short, SHORT)
            long = copy.deepcopy(short)
            if name == "softmax":
                lengthen(long, LONG)
            else:
                read(model, long, LONG)
            at_short, at_long = token_times(model, [short, long], tokens)
            times = f"{1e3 * at_short:>10.2f}{1e3 * at_long:>11.2f}"
            print(f"{name:<28}{times}{at_long / at_short:>8.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
