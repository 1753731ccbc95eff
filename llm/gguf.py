"""Loading a GGUF model into llama.cpp's server object (package `xllamacpp`)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# GNU OpenMP reads this as it is loaded. How often a thread looks whether the others are done before
# it sleeps: by default for milliseconds, many times a token. On a machine where another program
# keeps one of two cores busy, the thread that is waited for then never gets the other one: a token
# took two seconds and more (conch-moe), and takes 0.2 so. With both cores free it takes 22 ms
# either way; in a call, beside recognition and synthesis, a reply is ready some 30 ms later for it.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import xllamacpp

from llm.interfaces import LanguageModelError
from llm.priority import give_way

BATCH = 16
_READ_BLOCK = 1 << 22


def params(path: Path, slots: int, context: int, threads: int, key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.n_batch = params.n_ubatch = max(BATCH, slots)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    # On these CPU kernels plain attention is the faster one: 2400 tokens of context more delay a
    # first token by 43 ms instead of 100 (Qwen2.5-Coder-0.5B, two cores), short ones alike.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = False
    params.warmup = False
    params.verbosity = -1
    # Slots never change hands, so nothing is gained by copies of old prompts in memory.
    params.cache_ram_mib = 0
    # The server object opens a port on loopback: other users of the machine must not use it.
    params.api_keys = [key]
    return params


def load(path: Path, params: Any) -> Any:
    # The server object keeps Python's lock while it loads: let no slow disk be read under it.
    block = bytearray(_READ_BLOCK)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            while magic == b"GGUF" and file.readinto(block):
                pass
    except OSError as error:
        raise LanguageModelError(f"cannot read the model {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise LanguageModelError(f"{path} is not a GGUF model: it begins with {magic!r}")
    try:
        with ThreadPoolExecutor(1, initializer=give_way) as loader:
            return loader.submit(xllamacpp.Server, params).result()
    except (RuntimeError, ValueError) as error:
        raise LanguageModelError(f"llama.cpp cannot load {path}: {error}") from error
