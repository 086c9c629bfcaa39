"""Pages by their summaries: what Quest, page mass and their kin have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Plan, Step, Summary
from longleaf.engine.attention.policies.dense import DensePrefill
from longleaf.engine.attention.selection import Budget, select


@dataclass(frozen=True, slots=True)
class Retrieval(DensePrefill):
    """Each KV head reads the pages its summary scores best. The first `dense_layers` layers read everything: their
    attention is spread out, so that no choice of pages does it justice (Quest)."""

    name: str
    summary: Summary
    budget: Budget
    dense_layers: int = 2

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        if step.layer < self.dense_layers:
            return None
        paged = step.paged
        scores = self.summary.score(query, step.summary, step.blocks, paged.lengths, step.scale)
        return select(scores, paged.lengths, paged.page, self.budget)
