"""Far tokens all stand at one distance (InfLLM, Xiao et al., NeurIPS 2024, arXiv:2402.04617; ReRoPE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class Clipped:
    """The true distance up to `window` tokens, and `window` for all that is further away.

    The order of far tokens is lost, within a page as well; what they say is found all the same. Distances are counted
    from the first token of a block of queries, so a far token is seen between `window` and a block more.
    """

    window: int = 4096
    name: str = "clipped"

    @property
    def far(self) -> int:
        return self.window

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        return (start - tokens).clamp_max(self.window)[..., None].float()


TECHNIQUE = Technique(
    name="clipped",
    axis="positions",
    paper="InfLLM: Xiao et al., NeurIPS 2024, arXiv:2402.04617",
    cost="turns every key that is read",
    build=Clipped,
    everything={"window": 1 << 20},
)
