"""A few heads that find answers choose for all: a first look at a question, and a reply from what they looked at.

Some heads copy from what they look at (retrieval heads, Wu et al., 2024, arXiv:2404.15574), so what they look at while
a question is read tells where its answer stands; TokenSelect (Wu et al., EMNLP 2025) lets all heads vote instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Step, Summary, Technique
from longleaf.engine.attention.policies.infllm import InfLLM
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.attention.summary.lowrank import LowRank
from longleaf.engine.contract import Head

_LEAST = -20.0
"""The vote for a page that a head does not look at, or that is not full."""


@dataclass(frozen=True, slots=True)
class Voted:
    """As a policy it is the first look: InfLLM with the budget `look`, which notes in the states what `heads` look at.

    `after` then gives what the question and its reply read: the pages with most votes, the same in all layers. `budget`
    counts these, the document's first and last tokens; question and reply are read in any case. A head's vote for a
    page is the logarithm of the largest share of its attention that a token of the question gives it. Votes are added
    up: a page that all heads look at a little is better than one that a single head looks at. On a novel of 100,000
    tokens that put the pages of five numbers among the first 28 of 1,568, and the sum of shares among the first 36; 45
    and 79 where queries were compared at twice the distance.
    """

    heads: tuple[Head, ...] = ()
    budget: Budget = field(default_factory=lambda: Budget(tokens=4480, sinks=128, recent=256))
    look: Budget = field(default_factory=lambda: Budget(tokens=896, sinks=128, recent=256))
    summary: LowRank = field(default_factory=LowRank)
    block: int = 512
    name: str = "voted"

    @property
    def first(self) -> InfLLM:
        return InfLLM(self.look, self.summary, self.block)

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        return None

    def prefill_pages(self, query: torch.Tensor, chunk: Chunk, step: Step) -> Plan:
        self._note(query, step)
        return self.first.prefill_pages(query, chunk, step)

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        if len(query) == 1:  # a batch is of replies, whose choice was made
            self._note(query[:, :, None], step)
        return self.first.decode(query, step)

    def after(self, states: Mapping[int, Mapping[str, Any]], tokens: int, page: int) -> Elected | InfLLM:
        """What to read of a document of `tokens` tokens and after it; without any vote, what `first` would."""
        votes = [votes for state in states.values() for votes in state.get("votes", {}).values()]
        if not votes:
            return self.first
        since = max(0, tokens - self.budget.recent) // page
        sinks = min(since, -(-self.budget.sinks // page))
        total = torch.stack([vote[: tokens // page] for vote in votes]).sum(dim=0)[sinks:since]
        room = max(1, (self.budget.tokens - self.budget.recent) // page - sinks)
        best = total.topk(min(room, len(total))).indices + sinks
        return Elected((*range(sinks), *sorted(best.tolist())), since, self.heads, self.summary, self.block)

    def _note(self, query: torch.Tensor, step: Step) -> None:
        """Keep each head's vote for each page; `query` is `[1, heads, tokens, head_size]`."""
        votes = step.state.setdefault("votes", {})
        # The first page takes the attention that is for nothing, and has no part in this.
        blocks = step.blocks[:, 1:]
        if not blocks.shape[1]:
            return
        for head in _of_layer(self.heads, step.layer):
            shares = _scores(replace(self.summary, join="share"), query[:, head], head, query.shape[1], step, blocks)
            found = torch.nn.functional.pad(shares[0].clamp_min(_LEAST), (1, 0), value=_LEAST)
            if head in votes:
                before = torch.nn.functional.pad(votes[head], (0, len(found) - len(votes[head])), value=_LEAST)
                found = torch.maximum(found, before)
            votes[head] = found


@dataclass(frozen=True, slots=True)
class Elected:
    """Reads `pages`, which ascend, and everything from page `since` on; tells what `heads` look at there."""

    pages: tuple[int, ...]
    since: int
    heads: tuple[Head, ...]
    summary: Summary
    block: int
    name: str = "elected"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        return None

    def prefill_pages(self, query: torch.Tensor, chunk: Chunk, step: Step) -> Plan:
        first, last = chunk.start // self.block, (chunk.start + query.shape[2] - 1) // self.block
        lists = [self._until(number * self.block // step.paged.page) for number in range(first, last + 1)]
        most = max(map(len, lists))
        padded = [[*pages, *[-1] * (most - len(pages))] for pages in lists]
        pages = torch.tensor(padded, dtype=torch.int32, device=query.device)[:, None]
        return Plan(pages, (pages >= 0).sum(dim=-1).int())

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        lists = [self._until(-(-held // step.paged.page)) for held in step.held]
        most = max(map(len, lists))
        padded = [[*pages, *[-1] * (most - len(pages))] for pages in lists]
        pages = torch.tensor(padded, dtype=torch.int32, device=query.device)[:, None]
        scores = None
        if mine := _of_layer(self.heads, step.layer):
            blocks = step.blocks.gather(1, pages[:, 0].clamp_min(0).long()).masked_fill(pages[:, 0] < 0, 0)
            shares = [
                _scores(self.summary, query[:, head, None], head, query.shape[1], step, blocks).exp() for head in mine
            ]
            scores = torch.stack(shares).mean(dim=0).log()[:, None]
        return Plan(pages, (pages >= 0).sum(dim=-1).int(), scores)

    def _until(self, end: int) -> list[int]:
        return [page for page in self.pages if page < end] + list(range(self.since, end))


def _of_layer(heads: Sequence[Head], layer: int) -> list[int]:
    return [head for of, head in heads if of == layer]


def _scores(
    summary: Summary, query: torch.Tensor, head: int, heads: int, step: Step, blocks: torch.Tensor
) -> torch.Tensor:
    """Scores of pages `[rows, logical]` by one of `heads`, whose queries are `[rows, tokens, head_size]`; -inf where
    there is no page or it is not full."""
    of = head // (heads // step.paged.keys.shape[1])
    return summary.score(query, step.summary[:, of, None], blocks, step.paged.lengths, step.scale)[:, 0]


TECHNIQUE = Technique(
    name="voted",
    axis="decode",
    paper="retrieval heads: Wu et al., 2024, arXiv:2404.15574",
    cost="reads the question twice, the summary once; a step reads the budget and scores nothing",
    build=Voted,
    everything={"look": EVERYTHING},
)
