"""`Attend` in Triton kernels: what a policy has decided, executed on a GPU."""

from __future__ import annotations

import torch

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.contract import BlockMask, Paged, Plan
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.prefill import listed, prefill
from longleaf.engine.errors import EngineFailed

_FEW = 128
_SMALLEST_BLOCK = 16


class TritonAttend:
    """As `Attend`. Heads of 16 to 256 numbers and pages of 16 tokens up, powers of two.

    Prompts are left to torch where its own kernels are better: a prompt's beginning, few queries, which leave most of
    a card idle where nobody splits the keys, and float32, which Triton multiplies without tensor cores; and blocks of
    another size than a power of two from 16. What a long chunk asks of all before it is the kernel's: on an H100
    FlashAttention 2, which torch has for that, took 1.4 times as long (8K of 128K tokens, heads of 128).
    """

    name = "triton"

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._torch = TorchAttend()

    def prefill(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask | None, scale: float
    ) -> torch.Tensor:
        """As `Attend.prefill`."""
        new, start = query.shape[2], keys.shape[2] - query.shape[2]
        if mask is not None and mask.start != start:
            raise EngineFailed(
                f"a block mask begins at token {mask.start} and its queries at {start}; make it for this chunk"
            )
        slow = query.is_cuda and query.dtype == torch.float32
        if mask is None:
            ours = not slow and start > 0 and new >= _FEW
        else:
            ours = not slow and mask.size >= _SMALLEST_BLOCK and not mask.size & (mask.size - 1)
        if not ours:
            return self._torch.prefill(query, keys, values, mask, scale)
        with torch.cuda.device_of(query):  # Triton launches on the current card
            return prefill(query, keys, values, None if mask is None else listed(mask), scale)

    def decode(self, query: torch.Tensor, paged: Paged, plan: Plan | None, scale: float) -> torch.Tensor:
        """As `Attend.decode`."""
        with torch.cuda.device_of(query):
            return self._decoder(query, paged, plan, scale)
