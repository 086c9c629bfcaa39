"""Pages by the attention mass they would get, estimated from a low-rank summary (LOCKS, 2026)."""

from __future__ import annotations

from longleaf.engine.attention.contract import Summary, Technique
from longleaf.engine.attention.policies.retrieval import Retrieval
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.attention.summary.lowrank import LowRank


def page_mass(budget: Budget | None = None, *, summary: Summary | None = None, dense_layers: int = 2) -> Retrieval:
    """`summary` is any whose score is the logarithm of a mass: lowrank, gaussian."""
    return Retrieval("page_mass", summary or LowRank(), budget or Budget(), dense_layers)


TECHNIQUE = Technique(
    name="page_mass",
    axis="decode",
    paper="LOCKS, 2026 (package locks-kv)",
    cost="reads the summary, a tenth of the KV at page 64 and rank 4, and the budget",
    build=page_mass,
    everything={"budget": EVERYTHING, "dense_layers": 0},
)
