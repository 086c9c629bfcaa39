"""TriangleMix (He et al., 2025, arXiv:2507.21526): deep layers read sinks and a window, but for the prompt's end."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Technique
from longleaf.engine.attention.policies.a_shape import window_blocks
from longleaf.engine.attention.policies.dense import DenseDecode


@dataclass(frozen=True, slots=True)
class TriangleMix(DenseDecode):
    """Exact in the first `dense` share of the layers; above them, what lies between sinks and window is read by the
    last `last` queries of the prompt alone.

    Which those are is known where the chunk says how long the whole prompt is; otherwise no query is among them.
    """

    dense: float = 0.5
    sinks: int = 128
    recent: int = 1024
    last: int = 128
    size: int = 128
    name: str = "trianglemix"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        if chunk.layer < self.dense * chunk.layers:
            return None
        new = query.shape[2]
        allowed = window_blocks(chunk.start, new, self.size, self.sinks, self.recent, query.device)
        if chunk.total is not None:
            first, end = chunk.start // self.size, -(-(chunk.start + new) // self.size)
            numbers = torch.arange(first, end, device=query.device)[:, None]
            ending = numbers >= (chunk.total - self.last) // self.size
            allowed |= ending & (torch.arange(end, device=query.device) <= numbers)
        return BlockMask(allowed[None, None].expand(len(query), -1, -1, -1), self.size, chunk.start)


TECHNIQUE = Technique(
    name="trianglemix",
    axis="prefill",
    paper="He et al., 2025, arXiv:2507.21526",
    cost="dense in the lower layers; sinks + recent in the others",
    build=TriangleMix,
    everything={"dense": 0.0, "recent": 1 << 30},
    by_place=True,
)
