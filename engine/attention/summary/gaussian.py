"""Attention mass of a page as if its keys were normally distributed: mean, and variance along a few directions.

The moment generating function of a normal distribution gives E[exp(q k)] = exp(q mean + q variance q / 2); AMASS
(2026, package amass-kv) scores pages by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.summary.directions import directions
from longleaf.engine.attention.summary.join import Join, grouped, joined, of_pages, real_tokens


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Page score: an estimate of log(sum of exp(logit)) over the page's tokens.

    A page is kept as its mean, `rank` directions as long as the keys' deviation along them, the variance a channel
    that these leave over, and the logarithm of its tokens.
    """

    rank: int = 2
    join: Join = "nrm"
    name: str = "gaussian"

    def width(self, page: int, head_size: int) -> int:
        return head_size * (1 + self.rank) + 2

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        taken, real = real_tokens(keys, physical, filled)
        tokens = filled.clamp_min(1)[:, None, None, None]
        mean = (taken * real).sum(dim=2, keepdim=True) / tokens
        centred = (taken - mean) * real
        basis = directions(centred, self.rank)
        variance = (centred @ basis.mT).square().sum(dim=2) / tokens[..., 0]
        left = (centred.square().sum(dim=(2, 3)) / tokens[..., 0, 0] - variance.sum(dim=-1)).clamp_min(0)
        spread = basis * variance.sqrt()[..., None]
        count = tokens[..., 0].float().log().expand(-1, taken.shape[1], 1)
        parts = [mean.flatten(2), spread.flatten(2), left[..., None] / taken.shape[-1], count]
        buffer[physical] = torch.cat(parts, dim=-1).to(buffer.dtype)

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        q = grouped(query, buffer.shape[1]) * scale
        size, rank = q.shape[-1], self.rank
        kept = of_pages(buffer, table)
        rows, heads, logical, _ = kept.shape
        axes = kept[..., : size * (1 + rank)].reshape(rows, heads, logical * (1 + rank), size)
        along = (q @ axes.mT).unflatten(-1, (logical, 1 + rank))
        left, count = kept[..., -2], kept[..., -1]
        spread = along[..., 1:].square().sum(dim=-1) + q.square().sum(dim=-1, keepdim=True) * left[:, :, None]
        return joined(along[..., 0] + spread / 2 + count[:, :, None], table, self.join)


TECHNIQUE = Technique(
    name="gaussian",
    axis="summary",
    paper="AMASS, 2026 (package amass-kv)",
    cost="head_size (1 + rank) + 2 numbers a page; one product a step",
    build=Gaussian,
)
