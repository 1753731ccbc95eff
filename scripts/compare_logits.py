"""Do llama.cpp and transformers say the same of the shipped mixture? Ten prompts.

    .venv/bin/conch models build-moe --whole llm/moe/conch-moe.npz -o out/w.gguf --checkpoint out/w
    PYTHONPATH=.:scripts .venv/bin/python scripts/compare_logits.py out/w.gguf out/w

Keys and values are kept in 32 bits: those of 16 move what the router sees by so much that now and
then another expert is chosen, and then one of the two is as right as the other.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from rating.likeliest import likeliest

TOKENS = 100
PROMPTS = (
    "What is the capital of France?", "Tell me about bees.", "How long should I boil an egg?",
    "Why is the sky blue?", "My name is Rosalind.", "What is seven times eight?",
    "你好，今天天气怎么样？", "Say something kind.", "Which river flows through Vienna?",
    "I would like to tell you about my life.",
)  # fmt: skip


def main(packed: Path, checkpoint: Path) -> None:
    """Print the mean absolute difference of the log-probabilities of each prompt's likeliest
    tokens."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in PROMPTS
    ]
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    differences = []
    told_all = likeliest(packed, prompts, TOKENS, exact=True)
    for text, prompt, got in zip(PROMPTS, prompts, told_all, strict=True):
        with torch.no_grad():
            wanted = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        told = torch.tensor(list(got.values()))
        differences.append(float((told - wanted[list(got)]).abs().mean()))
        print(f"{differences[-1]:.4f}  {text}")
    print(f"{fmean(differences):.4f}  mean")


if __name__ == "__main__":
    typer.run(main)
