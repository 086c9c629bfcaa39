"""Far distances in steps of a group (Self-Extend, Jin et al., ICML 2024, arXiv:2401.01325)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class SelfExtend:
    """The true distance below `window`; beyond it places are divided by `group`, so that `group` times the length fits.

    The paper decides for each pair of tokens which rule holds and counts groups from each query; here a query counts
    them from the first token of its block, so a far distance differs from the paper's by less than a block.
    """

    window: int = 1024
    group: int = 8
    name: str = "self_extend"

    @property
    def far(self) -> int:
        return self.window

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        true = start - tokens
        grouped = start // self.group - tokens // self.group + self.window - self.window // self.group
        return torch.where(true < self.window, true, grouped)[..., None].float()


TECHNIQUE = Technique(
    name="self_extend",
    axis="positions",
    paper="Jin et al., ICML 2024, arXiv:2401.01325",
    cost="turns every key that is read",
    build=SelfExtend,
    everything={"window": 1 << 20},
)
