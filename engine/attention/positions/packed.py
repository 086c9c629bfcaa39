"""Pages that are read stand one behind another, as if nothing had been between (ReAttention, Liu et al., ICLR 2025,
arXiv:2407.15176)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class Packed:
    """The distance counts only tokens that are read.

    Tokens keep their order, which digits of a number need, and none is further away than a budget is long: the window
    holds any choice that fits it. `compared` is the distance at which a query is compared with page summaries.
    """

    compared: int = 512
    name: str = "packed"

    @property
    def far(self) -> int:
        return self.compared

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        count = tokens.shape[-1]
        if not count:
            return tokens[..., None].float()
        # Lists ascend, and a short one repeats its first page behind its last.
        last, place = tokens.max(dim=-1, keepdim=True)
        return (start - last + place - torch.arange(count, device=tokens.device))[..., None].float()


TECHNIQUE = Technique(
    name="packed",
    axis="positions",
    paper="ReAttention: Liu et al., ICLR 2025, arXiv:2407.15176",
    cost="turns every key that is read",
    build=Packed,
)
