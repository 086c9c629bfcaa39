"""InfLLM (Xiao et al., NeurIPS 2024, arXiv:2402.04617): a window, and blocks fetched from all that lies before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Step, Summary, Technique
from longleaf.engine.attention.selection import EVERYTHING, Budget, select
from longleaf.engine.attention.summary.lowrank import LowRank


@dataclass(frozen=True, slots=True)
class InfLLM:
    """Sinks, a window, and the pages that a block of queries needs most, for a prompt as for a reply.

    With positions that are clipped (`positions.clipped`) this reads a document longer than the model's window. The
    paper describes a block of 128 tokens by the 4 keys that get most attention near them, and all heads of a layer read
    the same; here any summary of a page serves, and unless `shared` each KV head has its own list. Queries of a prompt
    choose together in blocks of `block` tokens (the paper: 512) by their mean.
    """

    budget: Budget = field(default_factory=lambda: Budget(tokens=6272, sinks=128, recent=4096))
    summary: Summary = field(default_factory=LowRank)
    block: int = 512
    shared: bool = False
    name: str = "infllm"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        return None

    def prefill_pages(self, query: torch.Tensor, chunk: Chunk, step: Step) -> Plan:
        start, new, page = chunk.start, query.shape[2], step.paged.page
        first, last = start // self.block, (start + new - 1) // self.block
        asked, before = [], []
        for number in range(first, last + 1):
            low, high = max(start, number * self.block), min(start + new, (number + 1) * self.block)
            asked.append(query[0, :, low - start : high - start].float().mean(dim=1))
            before.append(number * self.block)
        # A block's choice is among the pages before it; the last of these is its newest.
        logical = max(1, before[-1] // page)
        ends = torch.tensor(before, dtype=torch.int32, device=query.device)
        held = torch.arange(logical, device=query.device) * page < ends[:, None]
        blocks = step.blocks[:, :logical].expand(len(before), -1).masked_fill(~held, 0)
        return self._choose(torch.stack(asked), step, blocks, ends)

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        return self._choose(query, step, step.blocks, step.paged.lengths)

    def _choose(self, query: torch.Tensor, step: Step, blocks: torch.Tensor, lengths: torch.Tensor) -> Plan:
        scores = self.summary.score(query, step.summary, blocks, lengths, step.scale)
        if self.shared:
            scores = scores.logsumexp(dim=1, keepdim=True)
        return select(scores, lengths, step.paged.page, self.budget)


TECHNIQUE = Technique(
    name="infllm",
    axis="decode",
    paper="Xiao et al., NeurIPS 2024, arXiv:2402.04617",
    cost="reads the summary once a block of queries, and the budget; memory for keys does not grow with the prompt",
    build=InfLLM,
    everything={"budget": EVERYTHING},
)
