"""What the parts of sparse attention say to one another. Shapes are written `[rows, ...]`; a row is one sequence.

Three parts that know nothing of each other's insides. A `Summary` describes a page of keys in a few numbers and scores
pages for a query. A `Policy` decides which blocks of a prompt are computed and which pages a token reads, as a
`BlockMask` or a `Plan`; None always means exact dense attention. An `Attend` executes the decision and never scores.
Where keys and values lie is the page store's business (`longleaf.engine.pages`); attention sees them as `Paged`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch

Axis = Literal["summary", "prefill", "decode", "heads", "positions", "eviction"]


@dataclass(frozen=True, slots=True)
class Technique:
    """A line of the registry: what a technique is called, where it comes from, what it costs, and how it is made.

    `build` takes the technique's settings as keywords, all of which have defaults; with those in `everything` it reads
    all there is, and must then equal dense attention. `by_place` ones choose without looking at queries and keys, so
    they miss what lies where they do not look.
    """

    name: str
    axis: Axis
    paper: str
    cost: str
    build: Callable[..., Any]
    everything: Mapping[str, Any] = field(default_factory=dict)
    by_place: bool = False


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
    within what is chosen. Blocks lie on one grid for queries and keys, from the sequence's first token. Query block 0
    is the one that holds token `start`, of which a chunk may have only a part: a prompt that is computed in chunks
    has the blocks of the whole sequence as key blocks.
    """

    blocks: torch.Tensor
    size: int
    start: int = 0


class Summary(Protocol):
    """Describes a page of one KV head in `width` numbers, and estimates from them what a query finds there."""

    @property
    def name(self) -> str: ...

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
    """What a policy may know of a decode step: `layer` of `layers`, the pages, and their summary buffer.

    `blocks` int32 `[rows, logical]` is where in `summary` each logical page is described, 0 where a row has fewer, and
    for its newest page until that is full; otherwise it is `paged.table`, where no page can lie elsewhere. Keys may lie
    in slower memory: `paged.table` names all pages only for a policy whose class says `reads_keys = True`. `held` are
    the rows' lengths as the host knows them, so that nothing need be read back from the device. `state` is the policy's
    own, one for each layer, and lives as long as the answer does; a policy itself has none.
    """

    layer: int
    layers: int
    paged: Paged
    summary: torch.Tensor
    scale: float
    blocks: torch.Tensor
    held: tuple[int, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a policy may know of a chunk of a prompt: `layer` of `layers`, and its first token's place.

    `total` is the length of the whole prompt, where it is known before its end is reached.
    """

    layer: int
    layers: int
    start: int
    scale: float
    total: int | None = None


@runtime_checkable
class Policy(Protocol):
    """Decides what is read. Never touches physical pages; None always means exact dense attention."""

    @property
    def name(self) -> str: ...

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        """The blocks to compute, for `query` `[rows, heads, new, head_size]` against `keys` `[rows, kv_heads, all,
        head_size]`, of which the last `new` are the query's own."""
        ...

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        """The pages one new token reads, for `query` `[rows, heads, head_size]`."""
        ...


@runtime_checkable
class ReadsPages(Protocol):
    """A policy that chooses what a prompt reads by the pages' summaries, so that the keys never lie in one piece.

    This is what lets a document be read that is longer than memory has room for. Queries choose in blocks of `block`
    tokens, a multiple of the page, on a grid from the sequence's first token.
    """

    @property
    def block(self) -> int: ...

    def prefill_pages(self, query: torch.Tensor, chunk: Chunk, step: Step) -> Plan:
        """The pages that each block of queries reads: row i of the plan is for the i-th block that the chunk has a
        part of, and all its lists are of one length. Pages of the block itself are read whether they are in it or not.

        `query` is `[1, heads, new, head_size]`; its own keys and values are in the pages already.
        """
        ...


@runtime_checkable
class IndexesDocuments(Protocol):
    """A policy that works out something about a document's keys once, and finds it in a step's `state` as "index"."""

    def index(self, keys: torch.Tensor) -> Any:
        """The index of one layer's keys, `[kv_heads, tokens, head_size]`."""
        ...


@runtime_checkable
class LooksFirst(Protocol):
    """An answering policy that reads a question once to choose what the question and its reply then read."""

    def after(self, states: Mapping[int, Mapping[str, Any]], tokens: int, page: int) -> Policy:
        """What to read of a document of `tokens` tokens and of what follows it, by the `states` of the first look."""
        ...


class Positions(Protocol):
    """Where a token sees the tokens before it, when the true distance is one the model was never trained on.

    Keys are stored without their positions and get them when they are read. Tokens are seen in blocks: all queries of
    a block see a key at the distance from the block's first token, plus their own place in the block.
    """

    @property
    def name(self) -> str: ...

    @property
    def far(self) -> int:
        """The distance at which a query is compared with page summaries, which have no positions either."""
        ...

    def distance(self, start: torch.Tensor, tokens: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        """How far before the block's first token each key is seen, `[..., n, 1]`, or `[..., n, frequencies]` where it
        differs between the frequencies of the rotation.

        `start` `[..., 1]` is the first token of a block of queries, `tokens` `[..., n]` are those of keys,
        `frequencies` `[f]` in radians a token. Within the block the distance is the true one, so it may be negative.
        """
        ...


class Eviction(Protocol):
    """Says which tokens of a document to keep where not all can be. Never a default: what a first question does not
    need, a second may (SCBench, Li et al., ICLR 2025)."""

    @property
    def name(self) -> str: ...

    def keep(self, query: torch.Tensor, keys: torch.Tensor, budget: int, scale: float) -> torch.Tensor:
        """Tokens to keep, int64 `[kv_heads, budget]`, ascending.

        `query` `[heads, last, head_size]` are the document's last queries, `keys` `[kv_heads, all, head_size]`.
        """
        ...


class Attend(Protocol):
    """Executes a decision. Group-query attention: query head i reads KV head i // (heads / kv_heads)."""

    @property
    def name(self) -> str: ...

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
