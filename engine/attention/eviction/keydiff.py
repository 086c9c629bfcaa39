"""KeyDiff (Park et al., 2025, arXiv:2504.15364): keys unlike the others stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class KeyDiff:
    """Keeps the keys whose direction is furthest from the mean direction. Looks at no query, so no question is
    favoured."""

    name: str = "keydiff"

    def keep(self, query: torch.Tensor, keys: torch.Tensor, budget: int, scale: float) -> torch.Tensor:
        unit = torch.nn.functional.normalize(keys.float(), dim=-1)
        unlike = -torch.cosine_similarity(unit, unit.mean(dim=1, keepdim=True), dim=-1)
        return unlike.topk(min(budget, keys.shape[1]), dim=-1).indices.sort(dim=-1).values


TECHNIQUE = Technique(
    name="keydiff",
    axis="eviction",
    paper="Park et al., 2025, arXiv:2504.15364",
    cost="keeps `budget` tokens a head",
    build=KeyDiff,
)
