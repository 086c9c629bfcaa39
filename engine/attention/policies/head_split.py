"""Heads that look far, and heads that do not (DuoAttention, Xiao et al., ICLR 2025, arXiv:2410.10819; RazorAttention,
Tang et al., 2024, arXiv:2407.15891)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from longleaf.engine.attention.attend import every_page
from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Policy, Step, Technique
from longleaf.engine.attention.policies.a_shape import window_blocks
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.selection import Budget, always_read


@dataclass(frozen=True, slots=True)
class HeadSplit:
    """KV heads in `retrieval` read what `policy` says, the others sinks and a window.

    `retrieval` holds (layer, KV head) pairs, as `head_kinds.score_heads` finds them; None, before they are known, has
    all. `size` is the block of a prompt where `policy` does not say.
    """

    retrieval: frozenset[tuple[int, int]] | None = None
    policy: Policy = field(default_factory=Dense)
    sinks: int = 64
    recent: int = 256
    size: int = 128

    @property
    def name(self) -> str:
        return f"head_split+{self.policy.name}"

    @property
    def reads_keys(self) -> bool:
        return bool(getattr(self.policy, "reads_keys", False))

    @property
    def grain(self) -> int:
        return int(getattr(self.policy, "grain", self.size))

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        mask = self.policy.prefill(query, keys, chunk)
        far = self._far(chunk.layer, keys.shape[1], keys.device)
        if far is None:
            return mask
        size, new = (self.size if mask is None else mask.size), query.shape[2]
        near = window_blocks(chunk.start, new, size, self.sinks, self.recent, query.device)
        wanted = torch.ones_like(near) if mask is None else mask.blocks
        heads = far.repeat_interleave(query.shape[1] // keys.shape[1])
        blocks = torch.where(heads[:, None, None], wanted, near & wanted)
        return BlockMask(blocks.expand(len(query), -1, -1, -1) if blocks.dim() == 3 else blocks, size, chunk.start)

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        plan = self.policy.decode(query, step)
        kv_heads, page = step.paged.keys.shape[1], step.paged.page
        far = self._far(step.layer, kv_heads, query.device)
        if far is None:
            return plan
        plan = every_page(step.paged) if plan is None else plan
        budget = Budget(1, self.sinks, self.recent)
        near = always_read(step.paged.lengths, step.blocks.shape[1], page, budget)
        pages = plan.pages.expand(-1, kv_heads, -1)
        allowed = near[:, None].expand(-1, kv_heads, -1).gather(2, pages.clamp_min(0).long())
        keep = (pages >= 0) & (far[:, None] | allowed)
        order, place = pages.masked_fill(~keep, step.blocks.shape[1]).sort(dim=-1)
        real = order < step.blocks.shape[1]
        scores = None
        if plan.scores is not None:
            scores = plan.scores.expand(-1, kv_heads, -1).gather(2, place).masked_fill(~real, float("-inf"))
        return Plan(order.masked_fill(~real, -1).int(), real.sum(dim=-1).int(), scores)

    def _far(self, layer: int, kv_heads: int, device: torch.device) -> torch.Tensor | None:
        """Which KV heads of a layer look far; None where all do."""
        if self.retrieval is None:
            return None
        far = [(layer, head) in self.retrieval for head in range(kv_heads)]
        return None if all(far) else torch.tensor(far, device=device)


TECHNIQUE = Technique(
    name="head_split",
    axis="heads",
    paper="DuoAttention: Xiao et al., ICLR 2025, arXiv:2410.10819; RazorAttention: Tang et al., 2024, arXiv:2407.15891",
    cost="streaming heads read sinks + recent, whatever the length",
    build=HeadSplit,
    everything={"retrieval": frozenset(), "recent": 1 << 30},
)
