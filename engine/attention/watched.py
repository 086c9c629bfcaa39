"""`Watched`: exact attention, with a note of where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from longleaf.engine.attention.attend import every_page
from longleaf.engine.attention.contract import Plan, Step
from longleaf.engine.attention.policies.dense import DensePrefill
from longleaf.engine.contract import Head


@dataclass(frozen=True, slots=True)
class Watched(DensePrefill):
    """Reads everything, and tells what share of the attention each page got; so dense replies have evidence too.

    `heads` are those to watch, such as the ones that find answers: their layers alone are worked out a second time.
    None watches all.
    """

    reads_keys: ClassVar[bool] = True
    heads: tuple[Head, ...] | None = None
    name: str = "dense"

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        watched = None if self.heads is None else [head for layer, head in self.heads if layer == step.layer]
        if watched == []:
            return None
        paged = step.paged
        everything = every_page(paged)
        shares = _shares(query, step)
        if watched is None:
            kv_heads = paged.keys.shape[1]
            scores = shares.unflatten(1, (kv_heads, -1)).amax(dim=2)
            pages = everything.pages.expand(-1, kv_heads, -1)
            return Plan(pages, everything.counts.expand(-1, kv_heads), scores.log())
        return Plan(everything.pages, everything.counts, _of(shares, watched).log())


def _shares(query: torch.Tensor, step: Step) -> torch.Tensor:
    """The share of each head's attention that each page gets, float32 `[rows, heads, logical]`."""
    paged = step.paged
    logical = paged.table.shape[1]
    keys = paged.keys[paged.table.long()].transpose(1, 2).flatten(2, 3).float()
    asked = query.unflatten(1, (keys.shape[1], -1)).float()
    logits = (asked @ keys.mT * step.scale).flatten(1, 2)
    real = torch.arange(logical * paged.page, device=query.device) < paged.lengths.clamp_min(1)[:, None]
    shares = logits.masked_fill(~real[:, None], float("-inf")).softmax(dim=-1)
    pages: torch.Tensor = shares.unflatten(-1, (logical, paged.page)).sum(dim=-1)
    return pages


def _of(shares: torch.Tensor, heads: Sequence[int]) -> torch.Tensor:
    """The mean over some heads, `[rows, 1, logical]`."""
    return shares[:, list(heads)].mean(dim=1, keepdim=True)
