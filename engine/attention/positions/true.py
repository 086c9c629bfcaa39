"""The distance that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class TrueDistance:
    """Exact distances, given when a key is read: what the model does itself, and what the others are tested against.

    `far` is where page summaries are compared with a query.
    """

    far: int = 1024
    name: str = "true"

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        return (start - tokens)[..., None].float()


TECHNIQUE = Technique(
    name="true",
    axis="positions",
    paper="RoFormer: Su et al., 2021, arXiv:2104.09864",
    cost="turns every key that is read",
    build=TrueDistance,
)
