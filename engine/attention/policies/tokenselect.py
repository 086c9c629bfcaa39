"""TokenSelect (Wu et al., EMNLP 2025, arXiv:2411.02886): exact logits, and a vote of all heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from longleaf.engine.attention.contract import Plan, Step, Technique
from longleaf.engine.attention.policies.dense import DensePrefill
from longleaf.engine.attention.selection import EVERYTHING, Budget, renewed, select


@dataclass(frozen=True, slots=True)
class TokenSelect(DensePrefill):
    """Every head spreads one vote over the tokens, as its attention would; the pages with most votes are read by all.

    The paper reads single tokens; here what a page's tokens got is added up. While a query is as like the last one
    that chose as `alike` says (cosine), its choice is kept; asking that waits for the device. Above 1 it never is.
    """

    reads_keys: ClassVar[bool] = True
    budget: Budget = field(default_factory=Budget)
    alike: float = 0.9
    dense_layers: int = 0
    name: str = "tokenselect"

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        if step.layer < self.dense_layers:
            return None
        page = step.paged.page
        pages = [-(-held // page) for held in step.held]
        asked = query.flatten(1).float()
        kept: tuple[list[int], torch.Tensor, Plan] | None = step.state.get("chosen")
        if kept is None:
            plan = select(_votes(query, step), step.paged.lengths, page, self.budget)
            step.state["chosen"] = (pages, asked, plan)
            return plan
        before, then, plan = kept
        alike = (torch.cosine_similarity(asked, then, dim=-1) >= self.alike).tolist()
        chosen = [not near or now != old for near, now, old in zip(alike, pages, before, strict=True)]
        if any(chosen):
            plan = renewed(plan, select(_votes(query, step), step.paged.lengths, page, self.budget), chosen)
            then = torch.where(torch.tensor(chosen, device=query.device)[:, None], asked, then)
        step.state["chosen"] = (pages, then, plan)
        return plan


def _votes(query: torch.Tensor, step: Step) -> torch.Tensor:
    """The logarithm of the votes for each page, `[rows, 1, logical]`."""
    paged = step.paged
    rows, logical = paged.table.shape
    keys = paged.keys[paged.table.long()].transpose(1, 2).flatten(2, 3).float()
    q = query.unflatten(1, (keys.shape[1], -1)).float()
    logits = q @ keys.mT * step.scale
    real = torch.arange(logical * paged.page, device=query.device) < paged.lengths.clamp_min(1)[:, None]
    votes: torch.Tensor = logits.masked_fill(~real[:, None, None], float("-inf")).softmax(dim=-1).sum(dim=(1, 2))
    return votes.view(rows, 1, logical, paged.page).sum(dim=-1).log()


TECHNIQUE = Technique(
    name="tokenselect",
    axis="decode",
    paper="Wu et al., EMNLP 2025, arXiv:2411.02886",
    cost="reads all keys, so at most half is saved, unless the last choice serves; then the budget alone",
    build=TokenSelect,
    everything={"budget": EVERYTHING},
)
