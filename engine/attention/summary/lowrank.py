"""Attention mass of a page from its centroid and its keys' coordinates along a few directions.

LOCKS (2026, package locks-kv) keeps int8 centroids and int4 coordinates of rank 8; here all numbers have the
buffer's type, and the directions come from subspace iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.summary.directions import directions
from longleaf.engine.attention.summary.join import Join, grouped, joined, of_pages, real_tokens

_ABSENT = -1e4
"""Added to the logit of a token that a page does not have. Finite, and bfloat16 can hold it."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """Page score: an estimate of log(sum of exp(logit)) over the page's tokens.

    A page is kept as its centroid, `rank` directions, each token's coordinates along them, and what to add to each
    token's logit (0, or far below it where the page is not full).
    """

    rank: int = 4
    join: Join = "nrm"
    name: str = "lowrank"

    def width(self, page: int, head_size: int) -> int:
        return head_size * (1 + self.rank) + page * (self.rank + 1)

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        taken, real = real_tokens(keys, physical, filled)
        centroid = (taken * real).sum(dim=2, keepdim=True) / filled.clamp_min(1)[:, None, None, None]
        centred = (taken - centroid) * real
        basis = directions(centred, self.rank)
        places = centred @ basis.mT
        absent = (~real).float().expand(-1, taken.shape[1], -1, -1) * _ABSENT
        parts = [part.flatten(2) for part in (centroid, basis, places, absent)]
        buffer[physical] = torch.cat(parts, dim=-1).to(buffer.dtype)

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        q = grouped(query, buffer.shape[1]) * scale
        size, rank = q.shape[-1], self.rank
        kept = of_pages(buffer, table)
        page = (kept.shape[-1] - size * (1 + rank)) // (rank + 1)
        rows, heads, logical, _ = kept.shape
        # Centroid and directions are products with the query alike: [rows, kv_heads, group, logical, 1 + rank].
        axes = kept[..., : size * (1 + rank)].reshape(rows, heads, logical * (1 + rank), size)
        along = (q @ axes.mT).unflatten(-1, (logical, 1 + rank))
        places = kept[..., size * (1 + rank) : -page].unflatten(-1, (page, rank))
        absent = kept[..., -page:]
        inside = torch.einsum("rkglc,rklpc->rkglp", along[..., 1:], places) + absent[:, :, None]
        return joined(along[..., 0] + inside.logsumexp(dim=-1), table, self.join)


TECHNIQUE = Technique(
    name="lowrank",
    axis="summary",
    paper="LOCKS, 2026 (package locks-kv)",
    cost="head_size (1 + rank) + page (rank + 1) numbers a page; a product a step, and page * rank more a page",
    build=LowRank,
)
