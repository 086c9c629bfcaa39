"""`PagedCache`: a transformers cache whose keys and values lie in the pages of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from longleaf.engine.pages.store import PageStore

Layer = tuple[torch.Tensor, torch.Tensor]


class PagedLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """One layer of sequences of a store; a row of the batch is a sequence.

    Tokens are written to the store, and handed on as they came: attention through pages reads the rest there itself.
    With `whole` they are handed on together with all before them, for a model whose attention is its own.
    """

    is_sliding = False

    def __init__(self, store: PageStore, sequences: Sequence[int], layer: int, *, whole: bool) -> None:
        super().__init__()
        self._store = store
        self._sequences = tuple(sequences)
        self._layer = layer
        self._whole = whole
        if whole and len(self._sequences) > 1:
            raise ValueError("a model that is not attended through pages reads one sequence at a time")

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Layer:
        """Append `[rows, kv_heads, new, head_size]`. Raises `PagesFull`."""
        self.is_initialized = True
        for row, sequence in enumerate(self._sequences):
            self._store.append(sequence, self._layer, key_states[row], value_states[row])
        if not self._whole:
            return key_states, value_states
        keys, values = everything(self._store, self._sequences[0], self._layer)
        return keys[None], values[None]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._store.length(self._sequences[0])

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        """The name of `get_max_length` in older transformers."""
        return -1


def paged_cache(store: PageStore, sequences: Sequence[int], *, whole: bool = False) -> Any:
    """A cache over sequences of a store, for one forward pass or many; see `PagedLayer`."""
    return Cache(layers=[PagedLayer(store, sequences, layer, whole=whole) for layer in range(store.shape.layers)])


def everything(store: PageStore, sequence: int, layer: int) -> Layer:
    """All keys and values of a layer, copies `[kv_heads, tokens, head_size]`."""
    blocks, lengths = store.blocks([sequence], layer)
    keys, values = store.gather(sequence, layer, torch.arange(blocks.shape[1], device=store.device)[None])
    tokens = int(lengths[0])
    return keys[:, :tokens], values[:, :tokens]
