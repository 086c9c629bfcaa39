"""`SummaryBank`: the summaries of a store's pages, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from longleaf.engine.attention.contract import Summary
from longleaf.engine.pages.store import PageStore

_ROOM = 64


class SummaryBank:
    """Describes pages as they fill, `[blocks, kv_heads, width]` a layer.

    A page is described once, when its last token is written: the newest page of a sequence is read in any case, so
    nothing is lost by not describing it before. Sequences that share pages share their summaries.
    """

    def __init__(self, store: PageStore, summary: Summary, dtype: torch.dtype | None = None) -> None:
        self.summary = summary
        self._store = store
        shape = store.shape
        self._width = summary.width(shape.page, shape.head_size)
        self._dtype = dtype or shape.dtype
        self._layers = [self._memory(_ROOM) for _ in range(shape.layers)]

    def layer(self, layer: int) -> torch.Tensor:
        """The buffer of a layer, with room for every block that the store has."""
        buffer = self._layers[layer]
        if len(buffer) < self._store.block_room:
            grown = self._memory(max(self._store.block_room, 2 * len(buffer)))
            grown[: len(buffer)] = buffer
            self._layers[layer] = buffer = grown
        return buffer

    def filled(self, sequence: int, layer: int, before: int, now: int, blocks: torch.Tensor) -> None:
        """Describe the pages of a sequence that tokens `before` to `now` made full; `blocks` int32 `[logical]`."""
        page = self._store.shape.page
        first, last = before // page, now // page
        if first == last:
            return
        logical = torch.arange(first, last, device=self._store.device)
        physical = self._store.ensure(sequence, layer, logical).long()
        keys, _ = self._store.pool(layer)
        described = torch.empty(last - first, keys.shape[1], self._width, dtype=self._dtype, device=keys.device)
        here = torch.arange(last - first, device=keys.device)
        whole = torch.full((last - first,), page, dtype=torch.int32, device=keys.device)
        self.summary.update(described, keys[physical], here, whole)
        self.layer(layer)[blocks[first:last].long()] = described

    def describe(self, sequence: int) -> None:
        """Describe all full pages of a sequence that was not written through this bank, as one from a file."""
        blocks, _ = self._store.blocks([sequence])
        for layer in range(self._store.shape.layers):
            self.filled(sequence, layer, 0, self._store.length(sequence), blocks[0])

    def of(self, sequence: int, tokens: int) -> torch.Tensor:
        """Summaries of a sequence's first pages, to be kept with them: `[layers, pages, kv_heads, width]`, where a page
        that `tokens` tokens do not fill has zeros."""
        blocks, _ = self._store.blocks([sequence])
        pages, full = self._store.shape.pages(tokens), tokens // self._store.shape.page
        kept = torch.stack([self.layer(layer)[blocks[0, :pages].long()] for layer in range(len(self._layers))])
        kept[:, full:] = 0
        return kept

    def restore(self, sequence: int, kept: Sequence[torch.Tensor]) -> None:
        """Take summaries back that `of` gave, for the first pages of a sequence, in one part or several in order."""
        blocks, _ = self._store.blocks([sequence])
        first = 0
        for part in kept:
            place = blocks[0, first : first + part.shape[1]].long()
            for layer in range(len(self._layers)):
                self.layer(layer)[place] = part[layer].to(self._store.device)
            first += part.shape[1]

    def _memory(self, blocks: int) -> torch.Tensor:
        shape = self._store.shape
        return torch.zeros(blocks, shape.kv_heads, self._width, dtype=self._dtype, device=self._store.device)
