"""Pages by their mean key: the cheapest index (ShadowKV's landmarks, Sun et al., ICML 2025, arXiv:2410.21465)."""

from __future__ import annotations

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.policies.retrieval import Retrieval
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.attention.summary.join import Join
from longleaf.engine.attention.summary.mean import Mean


def landmark(budget: Budget | None = None, *, join: Join = "max", dense_layers: int = 2) -> Retrieval:
    """ShadowKV's chunks have 8 tokens; at 64 the mean hides a single token that matters."""
    return Retrieval("landmark", Mean(join), budget or Budget(), dense_layers)


TECHNIQUE = Technique(
    name="landmark",
    axis="decode",
    paper="ShadowKV: Sun et al., ICML 2025, arXiv:2410.21465",
    cost="reads 1/(2 page) of the KV to score, and the budget",
    build=landmark,
    everything={"budget": EVERYTHING, "dense_layers": 0},
)
