"""Element-wise minimum and maximum of a page's keys: an upper bound of any of its logits.

Quest (Tang et al., ICML 2024, arXiv:2406.10774).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.summary.join import Join, grouped, joined, of_pages, real_tokens


@dataclass(frozen=True, slots=True)
class MinMax:
    """Page score: the largest logit that a key within the page's box could have. `[maximum, minimum]` are kept."""

    join: Join = "max"
    name: str = "minmax"

    def width(self, page: int, head_size: int) -> int:
        return 2 * head_size

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        taken, real = real_tokens(keys, physical, filled)
        upper = taken.masked_fill(~real, float("-inf")).amax(dim=2)
        lower = taken.masked_fill(~real, float("inf")).amin(dim=2)
        buffer[physical] = torch.cat([upper, lower], dim=-1).to(buffer.dtype)

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        q = grouped(query, buffer.shape[1]) * scale
        # max(q*min, q*max) is q's positive part times max plus its negative part times min: one product.
        halves = torch.cat([q.clamp_min(0), q.clamp_max(0)], dim=-1)
        scores = halves @ of_pages(buffer, table).mT
        return joined(scores, table, self.join)


TECHNIQUE = Technique(
    name="minmax",
    axis="summary",
    paper="Quest: Tang et al., ICML 2024, arXiv:2406.10774",
    cost="2 numbers a channel and page: 1/page of the KV; one product a step",
    build=MinMax,
)
