"""Keeps the keys and values of recent prompts; a prompt that starts the same way is not computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]
Ids = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of an earlier prompt, of which the first `length` tokens are wanted."""

    length: int
    layers: Layers


class PrefixStore:
    """The most recently used prompts, at most `capacity` tokens together; 0 keeps nothing.

    Prompts are computed in chunks of `chunk` tokens and reused in whole chunks only. So every chunk is
    computed in the same shape whether its start was reused or not, and rounding cannot make a reply depend on
    what was asked before.
    """

    def __init__(self, capacity: int, chunk: int) -> None:
        self._capacity = capacity
        self._chunk = chunk
        self._entries: OrderedDict[bytes, tuple[Ids, Layers]] = OrderedDict()

    @property
    def tokens(self) -> int:
        """Tokens held now."""
        return sum(len(ids) for ids, _ in self._entries.values())

    def find(self, ids: Sequence[int]) -> Prefix | None:
        """The longest start of `ids` that is held, short of the last token: its logits are still needed."""
        wanted = np.asarray(ids[:-1], dtype=np.int64)
        best_key, best = b"", 0
        for key, (held, _) in self._entries.items():
            shared = _common_length(held, wanted)
            if shared > best:
                best_key, best = key, shared
        whole = best - best % self._chunk
        if not whole:
            return None
        self._entries.move_to_end(best_key)
        return Prefix(whole, self._entries[best_key][1])

    def add(self, ids: Sequence[int], layers: Layers) -> None:
        """Hold a prompt's keys and values, `[1, kv_heads, tokens, head_size]` each, up to its last whole
        chunk.

        The least recently used prompts make room.
        """
        whole = len(ids) - len(ids) % self._chunk
        if not 0 < whole <= self._capacity:
            return
        array = np.asarray(ids[:whole], dtype=np.int64)
        covered = [key for key, (held, _) in self._entries.items() if _common_length(held, array) == len(held)]
        for key in covered:
            del self._entries[key]
        self._entries[array.tobytes()] = (array, tuple((k[:, :, :whole], v[:, :, :whole]) for k, v in layers))
        while self.tokens > self._capacity:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()


def _common_length(left: Ids, right: Ids) -> int:
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size
