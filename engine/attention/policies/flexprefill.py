"""FlexPrefill (Lai et al., ICLR 2025, arXiv:2502.20766): each head's pattern and budget from what it looks at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Technique
from longleaf.engine.attention.policies.a_shape import window_blocks
from longleaf.engine.attention.policies.dense import DenseDecode
from longleaf.engine.attention.policies.observed import (
    Observed,
    by_column,
    by_distance,
    covering,
    lines,
    spread,
    stretches,
)


@dataclass(frozen=True, slots=True)
class FlexPrefill(DenseDecode):
    """The fewest blocks that hold `coverage` of what a stretch's last queries look at.

    Where blocks' mean keys predict that well (a Jensen-Shannon distance below `tolerance`), every block of queries
    chooses by its own mean; elsewhere columns and diagonals are chosen. `least` blocks in any case.
    """

    coverage: float = 0.9
    tolerance: float = 0.1
    least: int = 4
    sinks: int = 128
    recent: int = 128
    size: int = 128
    grain: int = 1024
    last: int = 128
    name: str = "flexprefill"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        parts, ends = [], []
        for seen in stretches(query, keys, chunk.start, self.size, self.grain, self.last, chunk.scale):
            columns = covering(by_column(seen, self.size), self.coverage, self.least)
            slashes = covering(by_distance(seen, self.size), self.coverage, self.least)
            pooled = self._pooled(query, keys, chunk, seen)
            own = covering(pooled, self.coverage, self.least)
            told = _told_by_means(pooled[:, :, -1], seen, self.size) < self.tolerance
            parts.append(torch.where(told[..., None, None], own, lines(columns, slashes, seen.first)))
            ends.append(seen.end)
        always = window_blocks(chunk.start, query.shape[2], self.size, self.sinks, self.recent, query.device)
        blocks = spread(parts, ends) | always
        ahead = torch.arange(blocks.shape[-1], device=blocks.device)
        first = chunk.start // self.size
        blocks &= ahead <= torch.arange(first, first + blocks.shape[2], device=blocks.device)[:, None]
        return BlockMask(blocks, self.size, chunk.start)

    def _pooled(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk, seen: Observed) -> torch.Tensor:
        """What each block's mean query would pay to blocks' mean keys, `[rows, heads, query, end]`."""
        rows, heads, _, _ = query.shape
        low, high = max(chunk.start, seen.first * self.size), min(keys.shape[2], seen.end * self.size)
        offset = low - seen.first * self.size
        q = _means(query[:, :, low - chunk.start : high - chunk.start].float(), self.size, offset)
        k = _means(keys[:, :, :high].float(), self.size, 0)
        folded = q.reshape(rows, keys.shape[1], -1, q.shape[-1])
        logits = (folded @ k.mT * chunk.scale).view(rows, heads, q.shape[2], -1)
        ahead = (
            torch.arange(seen.end, device=query.device)
            > torch.arange(seen.first, seen.end, device=query.device)[:, None]
        )
        return logits.masked_fill(ahead, float("-inf")).softmax(dim=-1)


def _means(vectors: torch.Tensor, size: int, offset: int) -> torch.Tensor:
    """Means over blocks of `[rows, heads, tokens, head_size]`; the first lacks `offset` tokens, the last some more."""
    tokens = vectors.shape[2]
    block = (torch.arange(tokens, device=vectors.device) + offset) // size
    count = int(block[-1]) + 1
    total = vectors.new_zeros(*vectors.shape[:2], count, vectors.shape[3]).index_add_(2, block, vectors)
    return total / torch.bincount(block, minlength=count)[:, None]


def _told_by_means(pooled: torch.Tensor, seen: Observed, size: int) -> torch.Tensor:
    """Jensen-Shannon distance between where the last block looks and where its mean says, `[rows, heads]`."""
    true = by_column(seen, size)
    true = true / true.sum(dim=-1, keepdim=True)
    middle = (true + pooled) / 2
    both = torch.stack([true, pooled])
    return (torch.xlogy(both, both) - torch.xlogy(both, middle)).sum(dim=-1).mean(dim=0).clamp_min(0).sqrt()


TECHNIQUE = Technique(
    name="flexprefill",
    axis="prefill",
    paper="Lai et al., ICLR 2025, arXiv:2502.20766",
    cost="last/grain of dense attention to observe, a sort a head and stretch, and the blocks that coverage asks for",
    build=FlexPrefill,
    everything={"least": 1 << 30},
)
