"""How near GGUF models are to a reference, and how well they foresee what people write.

The logits are transformers', of the weights as the GGUF file rounds them (dequantised to float32):
llama.cpp's server gives no logits of a prompt. What its kernels round beside that is not in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml
from gguf import GGUFReader
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from llm.moe.evaluate import agreement, mean_kl, perplexity
from llm.moe.lessons import TAUGHT

Turns = tuple[str, ...]
"""What was said by turns, the caller first, the model's reply last."""

_TOPICS = "conversations emotion food gossip literature money movies psychology sports".split()
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Nearness:
    kl: float
    """KL(reference || model), nats a token."""
    top1: float
    """Share of tokens for which both find the same one likeliest."""
    perplexity: float
    """Of the human text."""
    tokens: int
    """Of the replies."""


def measure(path: Path, talks: list[Turns], reference: Path, kept: Path) -> Nearness:
    """`kept`: a file for the reference's log-probabilities, which are computed when it is not
    there. The reference itself is measured as any other."""
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save([logits.half() for logits in _Judge(reference).of_replies(talks)], kept)
    judge = _Judge(path)
    wanted: list[Tensor] = torch.load(kept, mmap=True)
    pairs = [(w, got) for w, got in zip(wanted, judge.of_replies(talks), strict=True)]
    total = sum(len(got) for _, got in pairs)
    return Nearness(
        sum(mean_kl(w, got) * len(got) for w, got in pairs) / total,
        sum(agreement(w, got) * len(got) for w, got in pairs) / total,
        judge.perplexity(human_text()),
        total,
    )


def human_text() -> str:
    """English dialogues of the package chatterbot-corpus (BSD-3-Clause), written by people."""
    folder = files("chatterbot_corpus") / "data" / "english"
    lines = []
    for topic in _TOPICS:
        content = yaml.safe_load((folder / f"{topic}.yml").read_text(encoding="utf-8"))
        lines += [str(line) for talk in content["conversations"] for line in talk]
    return "\n".join(lines)


_EXPERTS = {
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
}
"""Transformers' names of sizes, and llama.cpp's."""


class _Judge:
    """One model in memory."""

    def __init__(self, path: Path) -> None:
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        self._tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        config: Any = AutoConfig.from_pretrained(**where)
        if config.model_type == "qwen2_moe":  # transformers does not read these of a GGUF file
            fields = GGUFReader(path).fields
            for own, name in _EXPERTS.items():
                setattr(config, own, fields[f"qwen2moe.{name}"].contents())
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            **where, config=config, dtype=torch.float32
        ).eval()

    @torch.inference_mode()
    def of_replies(self, talks: list[Turns]) -> list[Tensor]:
        """For each talk the logits of its last turn and of its end, [tokens, vocabulary]."""
        start = self._tokenizer(f"<|im_start|>system\n{TAUGHT}<|im_end|>\n")["input_ids"]
        cache = DynamicCache(config=self._model.config)
        self._model(input_ids=torch.tensor([start]), past_key_values=cache, logits_to_keep=1)
        found = []
        for talk in talks:
            prompt, reply = (self._tokenizer(text)["input_ids"] for text in _written(talk))
            ids = torch.tensor([prompt + reply])
            out = self._model(ids, past_key_values=cache, logits_to_keep=len(reply) + 1)
            found.append(out.logits[0, :-1].clone())
            cache.crop(-ids.shape[1])
        return found

    @torch.inference_mode()
    def perplexity(self, text: str, chunks: int = 10) -> float:
        ids = torch.tensor(self._tokenizer(text)["input_ids"][: chunks * _CHUNK])
        parts = [chunk for chunk in ids.split(_CHUNK) if len(chunk) == _CHUNK]
        logs = (math.log(perplexity(self._model(p[None]).logits[0], p)) for p in parts)
        return math.exp(fmean(logs))


def _written(talk: Turns) -> tuple[str, str]:
    """In ChatML, which is the template of all the models compared: up to the reply, and that."""
    roles = ("user", "assistant") * len(talk)
    turns = [
        f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in zip(roles, talk, strict=False)
    ]
    begun = "<|im_start|>assistant\n"
    return "".join(turns[:-1]) + begun, f"{talk[-1]}<|im_end|>"
