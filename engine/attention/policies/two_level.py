"""Pages by a coarse index, and the best of them again by the parts they are made of (LServe, arXiv:2502.14866)."""

from __future__ import annotations

from longleaf.engine.attention.contract import Summary, Technique
from longleaf.engine.attention.policies.retrieval import Retrieval
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.attention.summary.minmax import MinMax
from longleaf.engine.attention.summary.twolevel import TwoLevel


def two_level(
    budget: Budget | None = None,
    *,
    coarse: Summary | None = None,
    fine: Summary | None = None,
    parts: int = 4,
    refined: int = 128,
    dense_layers: int = 2,
) -> Retrieval:
    """`refined` pages are scored again; it should be a few times the pages of the budget."""
    summary = TwoLevel(coarse or MinMax(), fine or MinMax(), parts, refined)
    return Retrieval("two_level", summary, budget or Budget(), dense_layers)


TECHNIQUE = Technique(
    name="two_level",
    axis="decode",
    paper="LServe: Yang et al., MLSys 2025, arXiv:2502.14866",
    cost="reads 1/page of the KV to score all pages, as much again for `refined` of them, and the budget",
    build=two_level,
    everything={"budget": EVERYTHING, "dense_layers": 0},
)
