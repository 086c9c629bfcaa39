"""Scores of pages and the choice among them, with the new token stored on the way: one launch a layer.

For a query, the most a page with smallest keys `a` and largest keys `b` can hold is `sum(max(q*a, q*b))` (Quest, Tang
et al., 2024), which equals `min(q, 0)·a + max(q, 0)·b` because a <= b: a matrix product. The newest page is always
read, so its score does not matter, and the programs that score need not wait for the one that stores the new token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.attention.triton.append import Kind, append, append_page
from longleaf.engine.attention.triton.select import check_budget, choose, select

# Above this many pages one program's registers do not hold a row beside the rest, and choosing is its own launch.
_FUSED_PAGES = 8192


@triton.jit
def _retrieve_kernel(
    query,
    summary,
    table,
    lengths,
    scores,
    done,
    pages,
    counts,
    key,
    value,
    keys,
    values,
    query_row,
    query_head,
    table_row,
    capacity,
    scale,
    budget,
    sinks,
    recent,
    new_row,
    new_head,
    keys_page,
    keys_head,
    values_page,
    values_head,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_TILE: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    MINMAX: tl.constexpr,
    BLOCK: tl.constexpr,
    CAPACITY: tl.constexpr,
    BUDGET: tl.constexpr,
    APPEND: tl.constexpr,
    SELECT: tl.constexpr,
):
    line = tl.program_id(0)
    row = (line // HEADS).to(tl.int64)
    head = (line % HEADS).to(tl.int64)
    length = tl.load(lengths + row)
    limit = (length + PAGE - 1) // PAGE
    if APPEND:
        if (tl.program_id(1) == 0) & (length > 0):
            newest = (length - 1) // PAGE
            append_page(
                key + row * new_row + head * new_head,
                value + row * new_row + head * new_head,
                keys,
                values,
                summary,
                tl.load(table + row * table_row + newest).to(tl.int64),
                head,
                newest,
                length - 1,
                length,
                0,
                keys_page,
                keys_head,
                values_page,
                values_head,
                PAGE,
                HEADS,
                HEAD,
                WIDTH,
                MINMAX,
            )
    page = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = page < limit
    d = tl.arange(0, HEAD)
    g = tl.arange(0, GROUP_TILE)
    line_scores = scores + line.to(tl.int64) * capacity
    if tl.program_id(1) * BLOCK < limit:
        physical = tl.load(table + row * table_row + page, mask=real, other=0).to(tl.int64)
        place = ((physical * HEADS + head) * WIDTH)[:, None] + d[None, :]
        first = tl.load(summary + place, mask=real[:, None], other=0.0)
        at = query + row * query_row + (head * GROUP + g)[:, None] * query_head + d[None, :]
        q = tl.load(at, mask=(g < GROUP)[:, None], other=0.0).to(first.dtype)
        if MINMAX:
            second = tl.load(summary + place + HEAD, mask=real[:, None], other=0.0)
            below = tl.minimum(q, 0.0).to(first.dtype)
            above = tl.maximum(q, 0.0).to(first.dtype)
            found = tl.dot(first, tl.trans(below), input_precision="ieee")
            found = tl.dot(second, tl.trans(above), found, input_precision="ieee")
        else:
            found = tl.dot(first, tl.trans(q), input_precision="ieee")
            for run in tl.static_range(1, WIDTH // HEAD):
                more = tl.load(summary + place + run * HEAD, mask=real[:, None], other=0.0)
                found = tl.maximum(found, tl.dot(more, tl.trans(q), input_precision="ieee"))
        best = tl.max(tl.where((g < GROUP)[None, :], found, float("-inf")), 1) * scale
        tl.store(line_scores + page, best, mask=real)
    if not SELECT:
        tl.store(
            line_scores + page, tl.full((BLOCK,), float("-inf"), tl.float32), mask=(page >= limit) & (page < capacity)
        )
    if SELECT:
        # The last program of a row to arrive sees what the others wrote, and chooses.
        tl.debug_barrier()
        arrived = tl.atomic_add(done + line, 1, sem="acq_rel")
        if arrived == tl.num_programs(1) - 1:
            index = tl.arange(0, CAPACITY)
            all_scores = tl.load(line_scores + index, mask=index < limit, other=0.0, cache_modifier=".cg")
            choose(
                all_scores,
                index,
                limit,
                budget,
                sinks,
                recent,
                pages + line.to(tl.int64) * budget,
                counts + line,
                BUDGET,
            )
            tl.store(done + line, 0)


def score(query: torch.Tensor, summary: torch.Tensor, paged: Paged, scale: float, kind: Kind = "mean") -> torch.Tensor:
    """Scores of all logical pages, float32 `[rows, kv_heads, logical]`, -inf past a row's last.

    `query` is `[rows, heads, head_size]`, `summary` `[physical, kv_heads, width]`; of a group's heads the best counts.
    """
    scores = _scores(query, paged)
    _launch(query, summary, paged, scale, kind, scores, fused=None, new=None)
    return scores


class Retriever:
    """Chooses `budget` pages for each row and KV head: the first `sinks`, the last `recent`, and the best between.

    Keeps the counters by which the programs of a launch find out which is the last; one launch at a time may use them.
    """

    def __init__(
        self, budget: int, *, sinks: int = 1, recent: int = 1, kind: Kind = "mean", fused: bool | None = None
    ) -> None:
        check_budget(budget, sinks, recent, 0)
        self.budget, self.sinks, self.recent, self.kind = budget, sinks, recent, kind
        self._fused = fused
        self._done: dict[tuple[torch.device, int], torch.Tensor] = {}

    def __call__(
        self,
        query: torch.Tensor,
        summary: torch.Tensor,
        paged: Paged,
        scale: float,
        new: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Plan:
        """The plan for `query`, `[rows, heads, head_size]`.

        `new` are the key and value of each row's newest token, `[rows, kv_heads, 1, head_size]`: they are stored, and
        their page described anew, in the same launch. `paged.lengths` counts them already.
        """
        rows, heads, capacity = len(query), paged.keys.shape[1], paged.table.shape[1]
        check_budget(self.budget, self.sinks, self.recent, capacity)
        scores = _scores(query, paged)
        fused = capacity <= _FUSED_PAGES if self._fused is None else self._fused
        if not fused:
            if new is not None:
                append(paged, summary, *new, self.kind)
            _launch(query, summary, paged, scale, self.kind, scores, fused=None, new=None)
            limits = (paged.lengths + (paged.page - 1)) // paged.page
            chosen = select(scores, limits[:, None], self.budget, sinks=self.sinks, recent=self.recent)
            return Plan(*chosen)
        pages = torch.empty(rows, heads, self.budget, dtype=torch.int32, device=query.device)
        counts = torch.empty(rows, heads, dtype=torch.int32, device=query.device)
        chosen = (pages, counts)
        _launch(query, summary, paged, scale, self.kind, scores, fused=(self, chosen), new=new)
        return Plan(*chosen)

    def done(self, lines: int, device: torch.device) -> torch.Tensor:
        """Counters at zero, one for each row and head; every launch leaves them so."""
        if (device, lines) not in self._done:
            self._done[device, lines] = torch.zeros(lines, dtype=torch.int32, device=device)
        return self._done[device, lines]


def _scores(query: torch.Tensor, paged: Paged) -> torch.Tensor:
    shape = (len(query), paged.keys.shape[1], paged.table.shape[1])
    return torch.empty(shape, dtype=torch.float32, device=query.device)


def _launch(
    query: torch.Tensor,
    summary: torch.Tensor,
    paged: Paged,
    scale: float,
    kind: Kind,
    scores: torch.Tensor,
    *,
    fused: tuple[Retriever, tuple[torch.Tensor, torch.Tensor]] | None,
    new: tuple[torch.Tensor, torch.Tensor] | None,
) -> None:
    rows, heads, capacity = scores.shape
    query = query if query.stride(-1) == 1 else query.contiguous()
    group, head_size = query.shape[1] // heads, query.shape[2]
    tile = triton.next_power_of_2(max(capacity, 16))
    wide = fused is not None and tile > 4096
    block = min(tile, 128 if wide else 64)
    key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in new) if new else (query, query)
    if value.stride() != key.stride():
        key, value = key.contiguous(), value.contiguous()
    retriever = fused[0] if fused else None
    pages, counts = fused[1] if fused else (scores, scores)
    _retrieve_kernel[(rows * heads, triton.cdiv(capacity, block))](
        query,
        summary,
        paged.table,
        paged.lengths,
        scores,
        retriever.done(rows * heads, query.device) if retriever else scores,
        pages,
        counts,
        key,
        value,
        paged.keys,
        paged.values,
        query.stride(0),
        query.stride(1),
        paged.table.stride(0),
        capacity,
        scale,
        retriever.budget if retriever else 0,
        retriever.sinks if retriever else 0,
        retriever.recent if retriever else 0,
        key.stride(0),
        key.stride(1),
        paged.keys.stride(0),
        paged.keys.stride(1),
        paged.values.stride(0),
        paged.values.stride(1),
        PAGE=paged.page,
        HEADS=heads,
        GROUP=group,
        GROUP_TILE=max(16, triton.next_power_of_2(group)),
        HEAD=head_size,
        WIDTH=summary.shape[2],
        MINMAX=kind == "minmax",
        BLOCK=block,
        CAPACITY=tile,
        BUDGET=triton.next_power_of_2(retriever.budget) if retriever else 1,
        APPEND=new is not None,
        SELECT=retriever is not None,
        num_warps=8 if wide else 4,
    )
