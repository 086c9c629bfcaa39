"""One token a row over the pages of a plan: attention split along the pages, joined by the last program to end.

The query heads of a group read their KV head's pages once, as the rows of a matrix product. Each split keeps its
softmax in float32 (Flash-Decoding, Dao et al., 2023); the last split of a row and head to end joins them, so there is
no second launch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.errors import EngineFailed

_LOG2_E = 1.4426950408889634
_TILE = 64


# The strides of tables and plans change as a reply grows, and a kernel is not to be compiled anew in its middle.
@triton.jit(do_not_specialize=["table_row", "pages_row", "pages_head", "counts_row", "counts_head"])
def _decode_kernel(
    query,
    keys,
    values,
    table,
    lengths,
    pages,
    counts,
    places,
    partial,
    stats,
    done,
    out,
    scale,
    query_row,
    query_head,
    keys_page,
    keys_head,
    values_page,
    values_head,
    table_row,
    pages_row,
    pages_head,
    counts_row,
    counts_head,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_TILE: tl.constexpr,
    HEAD: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    PLANNED: tl.constexpr,
    PLACED: tl.constexpr,
    STAGES: tl.constexpr,
):
    line = tl.program_id(0)
    split = tl.program_id(1)
    row = (line // HEADS).to(tl.int64)
    head = (line % HEADS).to(tl.int64)
    length = tl.load(lengths + row)
    planned = row * pages_row + head * pages_head
    if PLANNED:
        total = tl.load(counts + row * counts_row + head * counts_head) * PAGE
    else:
        total = length
    tiles = (total + TILE - 1) // TILE
    each = (tiles + SPLITS - 1) // SPLITS
    begin = split * each
    end = tl.minimum(begin + each, tiles)
    g = tl.arange(0, GROUP_TILE)
    d = tl.arange(0, HEAD)
    t = tl.arange(0, TILE)
    at_query = query + row * query_row + (head * GROUP + g)[:, None] * query_head + d[None, :]
    q = tl.load(at_query, mask=(g < GROUP)[:, None], other=0.0)
    most = tl.full((GROUP_TILE,), float("-inf"), tl.float32)
    weight = tl.zeros((GROUP_TILE,), tl.float32)
    mixed = tl.zeros((GROUP_TILE, HEAD), tl.float32)
    for tile in tl.range(begin, end, num_stages=STAGES):
        at = tile * TILE + t
        # One page holds the whole tile, or the tile several pages.
        slot = (tile * TILE) // PAGE if PAGE >= TILE else at // PAGE
        inside = slot * PAGE < total
        logical = tl.load(pages + planned + slot, mask=inside, other=0) if PLANNED else slot
        if PLACED:
            physical = tl.load(places + planned + slot, mask=inside, other=0).to(tl.int64)
        else:
            physical = tl.load(table + row * table_row + logical, mask=inside, other=0).to(tl.int64)
        real = (at < total) & (logical * PAGE + at % PAGE < length)
        inner = (at % PAGE * HEAD)[:, None] + d[None, :]
        if PAGE >= TILE:
            k = tl.load(keys + physical * keys_page + head * keys_head + inner, mask=real[:, None], other=0.0)
            v = tl.load(values + physical * values_page + head * values_head + inner, mask=real[:, None], other=0.0)
        else:
            at_key = (physical * keys_page + head * keys_head)[:, None] + inner
            at_value = (physical * values_page + head * values_head)[:, None] + inner
            k = tl.load(keys + at_key, mask=real[:, None], other=0.0)
            v = tl.load(values + at_value, mask=real[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(real[None, :], scores, float("-inf"))
        now = tl.maximum(most, tl.max(scores, 1))
        safe = tl.where(now == float("-inf"), 0.0, now)
        fade = tl.exp2(most - safe)
        p = tl.exp2(scores - safe[:, None])
        weight = weight * fade + tl.sum(p, 1)
        mixed = tl.dot(p.to(v.dtype), v, mixed * fade[:, None], input_precision="ieee")
        most = now
    base = line.to(tl.int64) * SPLITS * GROUP
    own = base + split * GROUP + g
    half = tl.num_programs(0).to(tl.int64) * SPLITS * GROUP
    tl.store(partial + own[:, None] * HEAD + d[None, :], mixed, mask=(g < GROUP)[:, None])
    tl.store(stats + own, most, mask=g < GROUP)
    tl.store(stats + half + own, weight, mask=g < GROUP)
    tl.debug_barrier()
    arrived = tl.atomic_add(done + line, 1, sem="acq_rel")
    if arrived == SPLITS - 1:
        s = tl.arange(0, SPLITS)
        for member in tl.static_range(GROUP):
            of = base + s * GROUP + member
            mosts = tl.load(stats + of, cache_modifier=".cg")
            weights = tl.load(stats + half + of, cache_modifier=".cg")
            top = tl.max(mosts, 0)
            fades = tl.exp2(mosts - tl.where(top == float("-inf"), 0.0, top))
            parts = tl.load(partial + of[:, None] * HEAD + d[None, :], cache_modifier=".cg")
            joined = tl.sum(parts * fades[:, None], 0)
            whole = tl.sum(weights * fades, 0)
            joined = tl.where(whole > 0.0, joined / whole, 0.0)
            at_out = (row * HEADS * GROUP + head * GROUP + member) * HEAD
            tl.store(out + at_out + d, joined.to(out.dtype.element_ty))
        tl.store(done + line, 0)


class Decoder:
    """Attention of one new token a row over pages. `splits`, `tile` and `warps` are chosen where not given.

    Keeps the counters by which the splits of a launch find out which is the last; one launch at a time may use them.
    """

    def __init__(
        self, splits: int | None = None, tile: int | None = None, warps: int | None = None, stages: int = 3
    ) -> None:
        self._splits, self._tile, self._warps, self._stages = splits, tile, warps, stages
        self._done: dict[tuple[torch.device, int], torch.Tensor] = {}

    def __call__(
        self,
        query: torch.Tensor,
        paged: Paged,
        plan: Plan | None,
        scale: float,
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `Attend.decode`. `places`, int32 of the shape of the plan's pages, are their physical pages, for a plan
        whose pages are not where the table says; a row without tokens gives zeros."""
        rows, heads, head_size = query.shape
        kv_heads = paged.keys.shape[1]
        group = heads // kv_heads
        query = query if query.stride(-1) == 1 else query.contiguous()
        if paged.keys.stride(2) != head_size or paged.values.stride(2) != head_size:
            raise EngineFailed("the tokens of a page must lie together; use a contiguous pool of pages")
        budget = (plan.pages if plan else paged.table).shape[-1] * paged.page
        tile = self._tile or min(_TILE, triton.next_power_of_2(max(16, budget)))
        splits = self._splits or _splits(rows * kv_heads, triton.cdiv(budget, tile), query.device)
        partial = torch.empty(rows * kv_heads, splits, group, head_size, dtype=torch.float32, device=query.device)
        stats = torch.empty(2, rows * kv_heads, splits, group, dtype=torch.float32, device=query.device)
        out = torch.empty(rows, heads, head_size, dtype=query.dtype, device=query.device)
        pages, counts = (plan.pages, plan.counts) if plan else (paged.table[:, None], paged.lengths[:, None])
        shared = pages.shape[1] == 1
        if pages.stride(-1) != 1 or (places is not None and places.stride() != pages.stride()):
            raise EngineFailed("the pages of a plan must lie together, and their places like them")
        _decode_kernel[(rows * kv_heads, splits)](
            query,
            paged.keys,
            paged.values,
            paged.table,
            paged.lengths,
            pages,
            counts,
            pages if places is None else places,
            partial,
            stats,
            self._counters(rows * kv_heads, query.device),
            out,
            scale * _LOG2_E,
            query.stride(0),
            query.stride(1),
            paged.keys.stride(0),
            paged.keys.stride(1),
            paged.values.stride(0),
            paged.values.stride(1),
            paged.table.stride(0),
            pages.stride(0),
            0 if shared else pages.stride(1),
            counts.stride(0),
            0 if shared else counts.stride(1),
            PAGE=paged.page,
            HEADS=kv_heads,
            GROUP=group,
            GROUP_TILE=max(16, triton.next_power_of_2(group)),
            HEAD=head_size,
            TILE=tile,
            SPLITS=splits,
            PLANNED=plan is not None,
            PLACED=places is not None,
            STAGES=self._stages,
            # An H100 reads 2,048 tokens of a plan in 15.5 us with two warps, in 17.5 with four; dense ran with four.
            num_warps=self._warps or (4 if plan is None else 2),
        )
        return out

    def _counters(self, lines: int, device: torch.device) -> torch.Tensor:
        if (device, lines) not in self._done:
            self._done[device, lines] = torch.zeros(lines, dtype=torch.int32, device=device)
        return self._done[device, lines]


def _splits(lines: int, tiles: int, device: torch.device) -> int:
    """Splits of each row and head, a power of two: enough to keep every multiprocessor of the card at two programs."""
    if device.type != "cuda":
        return min(4, triton.next_power_of_2(tiles))
    programs = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(64, triton.next_power_of_2(triton.cdiv(programs, lines)), triton.next_power_of_2(tiles)))
