"""`Attend` in Triton kernels: what a policy has decided, executed on a GPU."""

from __future__ import annotations

import torch

from longleaf.engine.attention.contract import BlockMask, Paged, Plan
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.prefill import listed, prefill
from longleaf.engine.errors import EngineFailed


class TritonAttend:
    """As `Attend`. Heads of 16 to 256 numbers, a power of two; pages and blocks of 16 tokens up, a power of two."""

    name = "triton"

    def __init__(self) -> None:
        self._decoder = Decoder()

    def prefill(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask | None, scale: float
    ) -> torch.Tensor:
        """As `Attend.prefill`."""
        start = keys.shape[2] - query.shape[2]
        if mask is not None and mask.start != start:
            raise EngineFailed(
                f"a block mask begins at token {mask.start} and its queries at {start}; make it for this chunk"
            )
        return prefill(query, keys, values, listed(mask) if mask else None, scale)

    def decode(self, query: torch.Tensor, paged: Paged, plan: Plan | None, scale: float) -> torch.Tensor:
        """As `Attend.decode`."""
        return self._decoder(query, paged, plan, scale)
