"""Everything is read: the reference that every other technique is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Step, Technique


class DensePrefill:
    """For policies that only say what decoding reads."""

    __slots__ = ()

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        return None


class DenseDecode:
    """For policies that only say what a prompt reads."""

    __slots__ = ()

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        return None


@dataclass(frozen=True, slots=True)
class Dense(DensePrefill, DenseDecode):
    """Exact attention."""

    name: str = "dense"


TECHNIQUE = Technique(
    name="dense",
    axis="decode",
    paper="Vaswani et al., NeurIPS 2017, arXiv:1706.03762",
    cost="reads all keys and values",
    build=Dense,
)
