"""`SummaryBank`: the summaries of a store's pages, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Summary
from longleaf.engine.pages.disk import KeptSummary
from longleaf.engine.pages.store import PageStore

_ROOM = 64


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Summaries of some `pages` of a file that belong to `blocks`."""

    blocks: torch.Tensor
    pages: torch.Tensor
    kept: KeptSummary

    def without(self, blocks: torch.Tensor) -> _Waiting:
        left = ~torch.isin(self.blocks, blocks)
        return self if left.all() else _Waiting(self.blocks[left], self.pages[left.cpu()], self.kept)


class SummaryBank:
    """Describes pages as they fill, `[blocks, kv_heads, width]` a layer.

    A page is described once, when its last token is written: the newest page of a sequence is read in any case, so
    nothing is lost by not describing it before. Sequences that share pages share their summaries. What is restored from
    files is copied when its layer is first wanted, so that opening a document reads none of it.
    """

    def __init__(self, store: PageStore, summary: Summary, dtype: torch.dtype | None = None) -> None:
        self.summary = summary
        self._store = store
        shape = store.shape
        self._width = summary.width(shape.page, shape.head_size)
        # What describes numbers of 8 bits need not have 32.
        half = store.format != "exact" and shape.dtype == torch.float32
        self._dtype = dtype or (torch.float16 if half else shape.dtype)
        self._layers = [self._memory(_ROOM) for _ in range(shape.layers)]
        self._waiting: list[list[_Waiting]] = [[] for _ in range(shape.layers)]

    def layer(self, layer: int) -> torch.Tensor:
        """The buffer of a layer, with room for every block that the store has. Raises `SegmentDamaged`."""
        buffer = self._layers[layer]
        if len(buffer) < self._store.block_room:
            grown = self._memory(max(self._store.block_room, 2 * len(buffer)))
            grown[: len(buffer)] = buffer
            self._layers[layer] = buffer = grown
        while self._waiting[layer]:
            waiting = self._waiting[layer][-1]
            buffer[waiting.blocks] = waiting.kept.layer(layer)[waiting.pages].to(buffer)
            self._waiting[layer].pop()
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
        place = blocks[first:last].long()
        self._take_over(layer, place)
        self.layer(layer)[place] = described

    def describe(self, sequence: int) -> None:
        """Describe all full pages of a sequence that was not written through this bank, as one from a file."""
        blocks, _ = self._store.blocks([sequence])
        for layer in range(self._store.shape.layers):
            self.filled(sequence, layer, 0, self._store.length(sequence), blocks[0])

    def of(self, sequence: int, pages: range, tokens: int) -> torch.Tensor:
        """Summaries of a sequence's pages, to be kept with them: `[layers, pages, kv_heads, width]`, where a page that
        the sequence's first `tokens` tokens do not fill has zeros."""
        blocks, _ = self._store.blocks([sequence])
        place = blocks[0, pages.start : pages.stop].long()
        kept = torch.stack([self.layer(layer)[place] for layer in range(len(self._layers))])
        kept[:, max(0, tokens // self._store.shape.page - pages.start) :] = 0
        return kept

    def restore(self, sequence: int, kept: Sequence[KeptSummary]) -> None:
        """Take summaries back that `of` gave, for the first pages of a sequence, in one part or several in order."""
        blocks, _ = self._store.blocks([sequence])
        parts, first = [], 0
        for part in kept:
            place = blocks[0, first : first + part.pages].long()
            parts.append(_Waiting(place, torch.arange(part.pages), part))
            first += part.pages
        for layer in range(len(self._layers)):
            self._take_over(layer, blocks[0, :first].long())
            self._waiting[layer] += parts

    def _take_over(self, layer: int, blocks: torch.Tensor) -> None:
        """Forget what waits for blocks that have come to hold something else."""
        if self._waiting[layer]:
            left = [waiting.without(blocks) for waiting in self._waiting[layer]]
            self._waiting[layer] = [waiting for waiting in left if len(waiting.blocks)]

    def _memory(self, blocks: int) -> torch.Tensor:
        shape = self._store.shape
        return torch.zeros(blocks, shape.kv_heads, self._width, dtype=self._dtype, device=self._store.device)
