"""From a score a page to the pages that are read: budgets by number and by mass, what is always read, and reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Plan


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a sequence a step reads.

    `tokens` bounds it, everything included: the first `sinks` tokens, which take the attention that is for nothing
    (StreamingLLM, Xiao et al., ICLR 2024), and the last `recent`. Both are rounded up to pages and always read. With
    `mass` below 1 a head reads no more pages than hold that share of the attention its summary estimates (top-p, as
    in Twilight, Lin et al., NeurIPS 2025); the rest of its list is empty.
    """

    tokens: int = 2048
    sinks: int = 64
    recent: int = 128
    mass: float = 1.0

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.sinks < 0 or self.recent < 1:
            raise ValueError(f"a budget of {self.tokens} tokens with {self.sinks} sinks and {self.recent} recent ones")
        if not 0 < self.mass <= 1:
            raise ValueError(f"mass is a share of the attention, above 0 and up to 1, not {self.mass}")

    def pages(self, page: int) -> int:
        """Pages of the longest list: at least what is always read, and one more to choose."""
        return max(self.tokens // page, self.always(page) + 1)

    def always(self, page: int) -> int:
        """Pages that are read whatever their score."""
        return -(-self.sinks // page) + self.recent_pages(page)

    def recent_pages(self, page: int) -> int:
        """Pages at the end that hold the last `recent` tokens, wherever the newest page ends."""
        return 1 + -(-self.recent // page)


EVERYTHING = Budget(tokens=1 << 30)
"""A budget that no sequence exhausts."""


def select(scores: torch.Tensor, lengths: torch.Tensor, page: int, budget: Budget) -> Plan:
    """The plan for scores `[rows, kv_heads or 1, logical]`, -inf where a row has no page.

    Shapes depend on the budget and the table alone, and nothing is read back from the device. Of equal scores the
    earlier page is not preferred: `topk` decides.
    """
    logical = scores.shape[-1]
    count = min(budget.pages(page), logical)
    forced = always_read(lengths, logical, page, budget)[:, None]
    exists = (torch.arange(logical, device=scores.device) * page < lengths[:, None])[:, None]
    ranked = scores.masked_fill(forced, float("inf")).masked_fill(~exists, float("-inf"))
    best, chosen = ranked.topk(count, dim=-1)
    keep = best > float("-inf")
    if budget.mass < 1:
        held = (scores.gather(-1, chosen) - scores.logsumexp(dim=-1, keepdim=True)).exp()
        keep &= (held.cumsum(dim=-1) - held < budget.mass) | (best == float("inf"))
    order, place = chosen.masked_fill(~keep, logical).sort(dim=-1)
    real = order < logical
    taken = scores.gather(-1, chosen).gather(-1, place)
    return Plan(
        pages=order.masked_fill(~real, -1).int(),
        counts=real.sum(dim=-1).int(),
        scores=taken.float().masked_fill(~real, float("-inf")),
    )


def always_read(lengths: torch.Tensor, logical: int, page: int, budget: Budget) -> torch.Tensor:
    """Which pages are sinks or recent, bool `[rows, logical]`."""
    pages = torch.arange(logical, device=lengths.device)
    newest = (lengths[:, None] - 1).clamp_min(0) // page
    return (pages < -(-budget.sinks // page)) | (pages > newest - budget.recent_pages(page))


def renewed(kept: Plan, new: Plan, rows: Sequence[bool]) -> Plan:
    """`kept` with the lists of `rows` from `new`. Each row keeps its own choice, whatever is beside it in a batch."""
    if all(rows):
        return new
    width = max(kept.pages.shape[-1], new.pages.shape[-1])
    take = torch.tensor(rows, device=new.pages.device)[:, None, None]
    scores = None
    if kept.scores is not None and new.scores is not None:
        scores = torch.where(take, _wide(new.scores, width, float("-inf")), _wide(kept.scores, width, float("-inf")))
    return Plan(
        torch.where(take, _wide(new.pages, width, -1), _wide(kept.pages, width, -1)),
        torch.where(take[..., 0], new.counts, kept.counts),
        scores,
    )


def _wide(lists: torch.Tensor, width: int, filler: float) -> torch.Tensor:
    return torch.nn.functional.pad(lists, (0, width - lists.shape[-1]), value=filler)
