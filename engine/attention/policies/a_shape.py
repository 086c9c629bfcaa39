"""Sinks and a window (StreamingLLM, Xiao et al., ICLR 2024, arXiv:2309.17453; LM-Infinite, arXiv:2308.16137)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Step, Technique
from longleaf.engine.attention.selection import Budget, always_read, select


@dataclass(frozen=True, slots=True)
class AShape:
    """Reads the first `sinks` tokens and the last `recent`, both rounded up to blocks, of prompt and reply alike.

    What lies between is lost: it is here as the floor that others must beat, and for heads that look nowhere else.
    """

    sinks: int = 128
    recent: int = 3968
    size: int = 128
    name: str = "a_shape"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        allowed = window_blocks(chunk.start, query.shape[2], self.size, self.sinks, self.recent, query.device)
        return BlockMask(allowed[None, None].expand(len(query), -1, -1, -1), self.size, chunk.start)

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        paged = step.paged
        logical = step.blocks.shape[1]
        budget = Budget(1, self.sinks, self.recent)
        read = always_read(paged.lengths, logical, paged.page, budget)[:, None]
        return select(read.float().log(), paged.lengths, paged.page, budget)


def window_blocks(start: int, new: int, size: int, sinks: int, recent: int, device: torch.device) -> torch.Tensor:
    """Blocks that hold sinks or the last `recent` tokens before a block of queries, bool `[query_blocks, key_blocks]`;
    its own block is among them."""
    first, end = start // size, -(-(start + new) // size)
    queries = torch.arange(first, end, device=device)[:, None]
    blocks = torch.arange(end, device=device)
    ago = queries - blocks
    return (ago >= 0) & ((blocks < -(-sinks // size)) | (ago <= -(-recent // size)))


TECHNIQUE = Technique(
    name="a_shape",
    axis="prefill",
    paper="StreamingLLM: Xiao et al., ICLR 2024, arXiv:2309.17453; LM-Infinite: Han et al., 2023, arXiv:2308.16137",
    cost="reads sinks + recent, whatever the length; loses the middle",
    build=AShape,
    everything={"recent": 1 << 30},
    by_place=True,
)
