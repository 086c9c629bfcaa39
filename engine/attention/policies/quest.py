"""Quest (Tang et al., ICML 2024, arXiv:2406.10774): pages by the upper bound of their logits."""

from __future__ import annotations

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.policies.retrieval import Retrieval
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.attention.summary.join import Join
from longleaf.engine.attention.summary.minmax import MinMax


def quest(budget: Budget | None = None, *, join: Join = "max", dense_layers: int = 2) -> Retrieval:
    """The paper reads pages of 16 tokens and all of the first two layers; it averages nothing over a group."""
    return Retrieval("quest", MinMax(join), budget or Budget(), dense_layers)


TECHNIQUE = Technique(
    name="quest",
    axis="decode",
    paper="Tang et al., ICML 2024, arXiv:2406.10774",
    cost="reads 1/page of the KV to score, and the budget",
    build=quest,
    everything={"budget": EVERYTHING, "dense_layers": 0},
)
