"""What the parts of sparse attention say to one another. Shapes are written `[rows, ...]`; a row is one sequence.

Three parts that know nothing of each other's insides. A `Summary` describes a page of keys in a few numbers and scores
pages for a query. A `Policy` decides which blocks of a prompt are computed and which pages a token reads, as a
`BlockMask` or a `Plan`; None always means exact dense attention. An `Attend` executes the decision and never scores.
Where keys and values lie is the page store's business (`longleaf.engine.pages`); attention sees them as `Paged`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

Axis = Literal["prefill", "decode", "heads", "positions", "eviction"]


@dataclass(frozen=True, slots=True)
class Paged:
    """Keys and values of one layer in pages, for a batch of sequences.

    `keys` and `values` are the pool, `[physical, kv_heads, page, head_size]`, keys with their positions applied.
    `table` is int32 `[rows, logical]`: the physical page of each logical one, 0 where a row has fewer (page 0 is never
    anyone's). `lengths` is int32 `[rows]`: tokens of each row; only a row's last page may be partly filled.
    """

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor
    lengths: torch.Tensor

    @property
    def page(self) -> int:
        """Tokens of a page."""
        return int(self.keys.shape[2])


@dataclass(frozen=True, slots=True)
class Plan:
    """The pages that a step reads. The only thing that is logged, so it is also the evidence.

    `pages` is int32 `[rows, kv_heads, budget]`, or `[rows, 1, budget]` where all heads read the same: logical pages in
    ascending order, -1 after the last. `counts` is int32 `[rows, kv_heads or 1]`: how many of them are real. A row's
    newest, partly filled page is always among them. `scores`, float32 of the shape of `pages`, is what the policy
    thought of each, kept where evidence is wanted.
    """

    pages: torch.Tensor
    counts: torch.Tensor
    scores: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class BlockMask:
    """The blocks of a prompt's attention that are computed.

    `blocks` is bool `[rows, heads or 1, query_blocks, key_blocks]`, blocks of `size` tokens; the causal rule holds
    within what is chosen. Query block 0 begins at token `start` of the sequence, which need not be a block's first:
    a prompt that is computed in chunks has the blocks of the whole sequence as key blocks.
    """

    blocks: torch.Tensor
    size: int
    start: int = 0


class Summary(Protocol):
    """Describes a page of one KV head in `width` numbers, and estimates from them what a query finds there."""

    name: str

    def width(self, page: int, head_size: int) -> int:
        """Numbers a page of one head takes."""
        ...

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        """Describe pages anew, in place.

        `buffer` is `[physical, kv_heads, width]`, `keys` the pool `[physical, kv_heads, page, head_size]`; `physical`
        (int64 `[n]`) names the pages, `filled` (int32 `[n]`) how many tokens of each are real.
        """
        ...

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Score of every logical page, float32 `[rows, kv_heads, logical]`, -inf past a row's last page.

        `query` is `[rows, heads, head_size]`; the heads of a group share a page list, so their scores are joined.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What a policy may know of a decode step: `layer` of `layers`, the pages, and their summary buffer."""

    layer: int
    layers: int
    paged: Paged
    summary: torch.Tensor
    scale: float
    tokens: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a policy may know of a chunk of a prompt: `layer` of `layers`, and its first token's place."""

    layer: int
    layers: int
    start: int
    scale: float


@runtime_checkable
class Policy(Protocol):
    """Decides what is read. Never touches physical pages; None always means exact dense attention."""

    name: str

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        """The blocks to compute, for `query` `[rows, heads, new, head_size]` against `keys` `[rows, kv_heads, all,
        head_size]`, of which the last `new` are the query's own."""
        ...

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        """The pages one new token reads, for `query` `[rows, heads, head_size]`."""
        ...


class Attend(Protocol):
    """Executes a decision. Group-query attention: query head i reads KV head i // (heads / kv_heads)."""

    name: str

    def prefill(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask | None, scale: float
    ) -> torch.Tensor:
        """`query` `[rows, heads, new, head_size]` over `keys`, `values` `[rows, kv_heads, all, head_size]`, causal, the
        query's tokens being the last; returns `[rows, heads, new, head_size]`."""
        ...

    def decode(self, query: torch.Tensor, paged: Paged, plan: Plan | None, scale: float) -> torch.Tensor:
        """One token a row: `query` `[rows, heads, head_size]` over the pages of the plan, or all; returns the same
        shape."""
        ...
