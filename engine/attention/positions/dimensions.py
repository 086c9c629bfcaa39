"""Far distances shrunk where a frequency has not seen them (DPE, Lu et al., 2025, arXiv:2504.18857)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class DimensionWise:
    """Each frequency has its own length: distances beyond `window` grow more slowly there, so that those of `longest`
    tokens end within the `trained` ones.

    A frequency that turns fully within the trained length has met every angle, and keeps the true distance. The paper
    measures an effective length for each frequency of a model; here it is the trained one for all.
    """

    window: int = 1024
    trained: int = 8192
    longest: int = 131072
    name: str = "dimension_wise"

    @property
    def far(self) -> int:
        return self.window

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        true = (start - tokens)[..., None].float()
        slope = (self.trained - self.window) / max(self.longest - self.window, 1)
        shrunk = self.window + (true - self.window) * min(slope, 1.0)
        slow = frequencies * self.trained < 2 * math.pi
        return torch.where(slow & (true > self.window), shrunk, true)


TECHNIQUE = Technique(
    name="dimension_wise",
    axis="positions",
    paper="DPE: Lu et al., 2025, arXiv:2504.18857",
    cost="turns every key that is read, by an angle for each frequency",
    build=DimensionWise,
    everything={"window": 1 << 20},
)
