"""What one call's cache of a Hugging Face model holds, and how it goes back to an earlier token.

The keys and values of a softmax layer can be cut off behind any token. A layer with a window or a
running state (gpt-oss's sliding windows, MiniMax's linear attention, LFM2's convolutions) cannot
be cut: its state is copied at the end of every prompt that was read, and a prompt that departs
from what was read goes on from the latest copy within their common beginning, the rest being read
again. So an interrupted reply costs the heard part of it, and words that are added cost themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicIndexedLayer, DynamicLayer

_KEPT = 4
"""Copies a call keeps: the first, which is nearest to the instructions, and the latest."""


@dataclass(frozen=True, slots=True)
class _Copy:
    position: int
    """Tokens read when it was taken."""
    layers: dict[int, Any]
    """The layers that cannot be cut, by number."""
    linear: list[Any]
    """MiniMax's states, [1, heads, head size, head size] each; its cache replaces them whole."""


class Track:
    """The tokens that one call's cache has read."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.cache: Any = None
        self._copies: list[_Copy] = []

    @property
    def plain(self) -> bool:
        """Whether all the cache is keys and values that can be cut, and stacked with others'."""
        return type(self.cache) is DynamicCache and all(
            type(layer) is DynamicLayer for layer in self.cache.layers
        )

    def reach(self, prompt: Sequence[int]) -> int:
        """How many tokens of `prompt`, its last one being unread, the cache could be kept for."""
        shared = sum(1 for _ in takewhile(_same, zip(self.tokens, prompt[:-1], strict=False)))
        if shared == len(self.tokens) or self._all_can_be_cut:
            return shared
        positions = [kept.position for kept in self._copies if kept.position <= shared]
        return max(positions, default=0)

    def rewind(self, prompt: Sequence[int]) -> int:
        """Go back to where reading `prompt` can go on; the tokens kept."""
        position = self.reach(prompt)
        if position < len(self.tokens):
            self._return_to(position)
        return position

    def follow(self, other: Track) -> None:
        """Have read what `other` has. Keys and values are shared: nothing is written into them,
        reading on makes new ones."""
        self.clear()
        if other.cache is None:
            return
        self.tokens, self._copies = list(other.tokens), list(other._copies)
        self.cache = copy.copy(other.cache)
        self.cache.layers = [
            copy.copy(layer) if _can_be_cut(layer) else copy.deepcopy(layer)
            for layer in other.cache.layers
        ]
        if hasattr(other.cache, "linear_cache"):
            self.cache.linear_cache = list(other.cache.linear_cache)

    def beginning(self, limit: int) -> Track:
        """At most the first `limit` tokens, in memory of their own."""
        made = Track()
        made.follow(self)
        made.rewind([*self.tokens[:limit], -1])
        for layer in made.cache.layers if made.cache else ():
            if _can_be_cut(layer) and layer.is_initialized:
                layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
        return made

    def feed(self, model: Any, tokens: Sequence[int]) -> torch.Tensor:
        """Read `tokens`; the logits, [vocabulary], behind the last one.

        After an error nothing is kept: some layers may have read them and others not."""
        start = len(self.tokens)
        positions = torch.arange(start, start + len(tokens), device=model.device)
        try:
            output = model(
                input_ids=torch.tensor([tokens], device=model.device),
                position_ids=positions[None],
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except Exception:
            self.clear()
            raise
        self.cache = output.past_key_values
        self.tokens += tokens
        logits: torch.Tensor = output.logits[0, -1]
        return logits

    def copy_state(self) -> None:
        """Make this a point to come back to, where the cache cannot be cut."""
        if self.cache is None or self._all_can_be_cut:
            return
        layers = {
            number: copy.deepcopy(layer)
            for number, layer in enumerate(self.cache.layers)
            if not _can_be_cut(layer)
        }
        linear = list(getattr(self.cache, "linear_cache", []))
        before = [kept for kept in self._copies if kept.position < len(self.tokens)]
        del before[1 : len(before) - _KEPT + 2]
        self._copies = [*before, _Copy(len(self.tokens), layers, linear)]

    def clear(self) -> None:
        self.tokens, self.cache, self._copies = [], None, []

    def _return_to(self, position: int) -> None:
        """Only to where `reach` says."""
        if not position:
            self.clear()
            return
        if not self._all_can_be_cut:
            self._copies = [kept for kept in self._copies if kept.position <= position]
            last = self._copies[-1]
            for number, layer in last.layers.items():
                self.cache.layers[number] = copy.deepcopy(layer)
            if last.linear:
                self.cache.linear_cache = list(last.linear)
        for layer in self.cache.layers:
            if _can_be_cut(layer):
                layer.crop(position - len(self.tokens))
        del self.tokens[position:]

    @property
    def _all_can_be_cut(self) -> bool:
        linear = getattr(self.cache, "linear_cache", [])
        return not linear and all(map(_can_be_cut, self.cache.layers))


class Stack:
    """Several calls' plain caches as one, the shorter padded on the left, so that a step reads
    the weights once for all of them. The calls' own caches are empty meanwhile."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = list(tracks)
        lengths = [len(track.tokens) for track in self.tracks]
        self._pads = [max(lengths) - length for length in lengths]
        layers = [track.cache.layers for track in self.tracks]
        self._cache: Any = DynamicCache()
        for number, parts in enumerate(zip(*layers, strict=True)):
            keys = [_padded(part.keys, pad) for part, pad in zip(parts, self._pads, strict=True)]
            values = [
                _padded(part.values, pad) for part, pad in zip(parts, self._pads, strict=True)
            ]
            self._cache.update(torch.cat(keys), torch.cat(values), number)
        for track in self.tracks:
            track.cache = None

    def feed(self, model: Any, tokens: Sequence[int]) -> torch.Tensor:
        """Read one token of each call; the logits, [calls, vocabulary].

        After an error no call's cache keeps anything."""
        positions = [[len(track.tokens)] for track in self.tracks]
        length = positions[0][0] + self._pads[0] + 1
        mask = torch.arange(length)[None] >= torch.tensor(self._pads)[:, None]
        try:
            output = model(
                input_ids=torch.tensor(tokens, device=model.device)[:, None],
                position_ids=torch.tensor(positions, device=model.device),
                attention_mask=mask.to(model.device, torch.long),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except Exception:
            for track in self.tracks:
                track.clear()
            raise
        for track, token in zip(self.tracks, tokens, strict=True):
            track.tokens.append(token)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def part(self) -> None:
        """Give every call its cache back."""
        for row, (track, pad) in enumerate(zip(self.tracks, self._pads, strict=True)):
            track.cache = DynamicCache()
            for number, layer in enumerate(self._cache.layers):
                own = slice(row, row + 1), slice(None), slice(pad, None)
                track.cache.update(layer.keys[own], layer.values[own], number)


def _same(pair: tuple[int, int]) -> bool:
    return pair[0] == pair[1]


def _can_be_cut(layer: Any) -> bool:
    # The layers' own is_croppable says yes for windows too, which then refuse.
    return type(layer) in {DynamicLayer, DynamicIndexedLayer}


def _padded(states: torch.Tensor, pad: int) -> torch.Tensor:
    """[1, heads, tokens, head size] with `pad` zeros before the tokens."""
    return torch.nn.functional.pad(states, (0, 0, pad, 0))
