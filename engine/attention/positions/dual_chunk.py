"""Places count anew in each chunk (Dual Chunk Attention, An et al., ICML 2024, arXiv:2402.17463)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class DualChunk:
    """True distances within a chunk and, up to `local`, to the chunk before; else the place in a key's chunk counts
    back from the `window`.

    `chunk + local` must be within the window that the model was trained on.
    """

    chunk: int = 3072
    local: int = 1024
    name: str = "dual_chunk"

    @property
    def window(self) -> int:
        """The largest distance, but for the query's place in its block."""
        return self.chunk + self.local

    @property
    def far(self) -> int:
        return self.window - self.chunk // 2

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        true = start - tokens
        # Within a chunk a query's place is its own, and against earlier chunks it is the window's last.
        elsewhere = self.window - tokens % self.chunk
        near = (tokens // self.chunk >= start // self.chunk) | (true < self.local)
        return torch.where(near, true, elsewhere)[..., None].float()


TECHNIQUE = Technique(
    name="dual_chunk",
    axis="positions",
    paper="An et al., ICML 2024, arXiv:2402.17463",
    cost="turns every key that is read",
    build=DualChunk,
    everything={"chunk": 1 << 20},
)
