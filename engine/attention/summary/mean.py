"""The mean of a page's keys: InfLLM's and ShadowKV's landmark, half as wide as minimum and maximum.

ShadowKV (Sun et al., ICML 2025, arXiv:2410.21465) keeps the mean of 8 tokens; larger pages blur it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.summary.join import Join, grouped, joined, of_pages, real_tokens


@dataclass(frozen=True, slots=True)
class Mean:
    """Page score: the logit of the page's mean key."""

    join: Join = "max"
    name: str = "mean"

    def width(self, page: int, head_size: int) -> int:
        return head_size

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        taken, real = real_tokens(keys, physical, filled)
        total = (taken * real).sum(dim=2)
        buffer[physical] = (total / filled.clamp_min(1)[:, None, None]).to(buffer.dtype)

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        q = grouped(query, buffer.shape[1]) * scale
        return joined(q @ of_pages(buffer, table).mT, table, self.join)


TECHNIQUE = Technique(
    name="mean",
    axis="summary",
    paper="ShadowKV: Sun et al., ICML 2025, arXiv:2410.21465",
    cost="1 number a channel and page: 1/(2 page) of the KV; one product a step",
    build=Mean,
)
