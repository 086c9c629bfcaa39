"""MInference's vertical-slash pattern (Jiang et al., NeurIPS 2024, arXiv:2407.02490), for every head."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Technique
from longleaf.engine.attention.policies.a_shape import window_blocks
from longleaf.engine.attention.policies.dense import DenseDecode
from longleaf.engine.attention.policies.observed import by_column, by_distance, lines, spread, stretches


@dataclass(frozen=True, slots=True)
class VerticalSlash(DenseDecode):
    """Columns and diagonals that the last queries of each stretch look at most; as many for every head.

    The paper takes single columns and diagonals by a pattern searched for offline; here both are blocks of `size`
    tokens, `vertical` and `slash` of them, beside sinks and the window. `grain` is the stretch, `last` its queries.
    """

    vertical: int = 8
    slash: int = 8
    sinks: int = 128
    recent: int = 128
    size: int = 128
    grain: int = 1024
    last: int = 64
    name: str = "vertical_slash"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        parts, ends = [], []
        for seen in stretches(query, keys, chunk.start, self.size, self.grain, self.last, chunk.scale):
            columns = _best(by_column(seen, self.size), self.vertical)
            slashes = _best(by_distance(seen, self.size), self.slash)
            parts.append(lines(columns, slashes, seen.first))
            ends.append(seen.end)
        always = window_blocks(chunk.start, query.shape[2], self.size, self.sinks, self.recent, query.device)
        return BlockMask(spread(parts, ends) | always, self.size, chunk.start)


def _best(weights: torch.Tensor, count: int) -> torch.Tensor:
    place = weights.topk(min(count, weights.shape[-1]), dim=-1).indices
    return torch.zeros_like(weights, dtype=torch.bool).scatter_(-1, place, True)


TECHNIQUE = Technique(
    name="vertical_slash",
    axis="prefill",
    paper="MInference: Jiang et al., NeurIPS 2024, arXiv:2407.02490",
    cost="last/grain of dense attention to observe, and about (vertical + 2 slash) blocks a block of queries",
    build=VerticalSlash,
    everything={"vertical": 1 << 30},
)
