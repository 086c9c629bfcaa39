"""Two levels: all pages scored coarsely, the best of them again by the parts they are made of.

LServe (Yang et al., MLSys 2025, arXiv:2502.14866) splits a physical page into logical ones and takes the best of
them for the whole. Here the parts are looked at only where the coarse score says it may matter, so that what a step
reads of the index does not grow with its precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from longleaf.engine.attention.contract import Summary, Technique
from longleaf.engine.attention.summary.mean import Mean
from longleaf.engine.attention.summary.minmax import MinMax


@dataclass(frozen=True, slots=True)
class TwoLevel:
    """Page score: the best of its `parts` by `fine`, for the `refined` pages that `coarse` puts first; the others
    follow these in coarse order.

    A page must be a multiple of `parts`, and the width of `coarse` must not depend on the page's.
    """

    coarse: Summary = field(default_factory=Mean)
    fine: Summary = field(default_factory=MinMax)
    parts: int = 4
    refined: int = 128
    name: str = "twolevel"

    def width(self, page: int, head_size: int) -> int:
        if page % self.parts:
            raise ValueError(f"pages of {page} tokens do not split into {self.parts} parts; choose a divisor")
        return self.coarse.width(page, head_size) + self.parts * self.fine.width(page // self.parts, head_size)

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        _, heads, page, size = keys.shape
        step = page // self.parts
        edge = self.coarse.width(page, size)
        pages = keys.index_select(0, physical)
        here = torch.arange(len(physical), device=keys.device)
        coarse = buffer.new_empty(len(physical), heads, edge)
        self.coarse.update(coarse, pages, here, filled)
        fine = buffer.new_empty(len(physical) * self.parts, heads, self.fine.width(step, size))
        pieces = pages.unflatten(2, (self.parts, step)).transpose(1, 2).flatten(0, 1)
        starts = torch.arange(self.parts, device=keys.device) * step
        held = (filled[:, None] - starts).clamp(0, step).flatten().to(filled.dtype)
        # A part without tokens repeats the first, which changes no maximum.
        every = torch.arange(len(held), device=keys.device)
        source = torch.where(held > 0, every, every - every % self.parts)
        self.fine.update(fine, pieces[source], every, held[source])
        flat = fine.unflatten(0, (len(physical), self.parts)).transpose(1, 2).flatten(2)
        buffer[physical] = torch.cat([coarse, flat], dim=-1)

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows, logical = table.shape
        heads, size = buffer.shape[1], query.shape[-1]
        edge = self.coarse.width(self.parts, size)
        coarse = self.coarse.score(query, buffer[..., :edge], table, lengths, scale)
        count = min(self.refined, logical)
        best, chosen = coarse.topk(count, dim=-1)
        physical = table.long().gather(1, chosen.flatten(1)).view_as(chosen)
        head = torch.arange(heads, device=buffer.device)[None, :, None]
        parts = buffer[physical, head, edge:].unflatten(-1, (self.parts, -1))
        # Every KV head has pages of its own here, so each becomes a row of one head.
        own = parts.reshape(rows * heads * count * self.parts, 1, -1)
        names = torch.arange(1, len(own) + 1, device=buffer.device).view(rows * heads, count * self.parts)
        shifted = torch.cat([own.new_zeros(1, 1, own.shape[-1]), own])
        asked = query.reshape(rows * heads, -1, size)
        full = torch.ones(rows * heads, dtype=lengths.dtype, device=buffer.device)
        fine = self.fine.score(asked, shifted, names, full, scale).view(rows, heads, count, self.parts).amax(dim=-1)
        fine = fine.masked_fill(best == float("-inf"), float("-inf"))
        floor = fine.masked_fill(fine == float("-inf"), float("inf")).amin(dim=-1, keepdim=True)
        behind = floor - 1 + coarse - best[..., -1:].nan_to_num(neginf=0.0)
        return behind.masked_fill(coarse == float("-inf"), float("-inf")).scatter(-1, chosen, fine)


TECHNIQUE = Technique(
    name="twolevel",
    axis="summary",
    paper="LServe: Yang et al., MLSys 2025, arXiv:2502.14866",
    cost="coarse plus parts * fine numbers a page are kept; a step reads the coarse ones and `refined` fine ones",
    build=TwoLevel,
)
