"""Causal attention of a prompt over chosen blocks, and a quick estimate of which blocks matter.

The kernel walks a list of key blocks for each query block, so blocks that were not chosen cost nothing, not even a
look (FlashAttention's online softmax, Dao 2023, over the lists of MInference, Jiang et al. 2024). The estimate compares
means of a few neighbouring tokens: finer than one mean for a block, which would drown a short passage, and for runs of
16 tokens still 256 times less work than the attention it saves. The end of a prompt asks about all before it, and its
few tokens read everything (Tri-shape, SCBench, Li et al., ICLR 2025): the estimate alone loses what they ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl

from longleaf.engine.attention.contract import BlockMask
from longleaf.engine.attention.triton.select import MOST_PAGES, select
from longleaf.engine.errors import EngineFailed

_LOG2_E = 1.4426950408889634
_MOST_STAGES = 3
# Bytes of shared memory that any card has (AMD's do not say), and that a program needs beside its tiles.
_LEAST_SHARED, _SPARE_SHARED = 48 << 10, 8 << 10


@dataclass(frozen=True, slots=True)
class BlockLists:
    """The key blocks of each query block, of `size` tokens.

    `blocks` is int32 `[rows, heads or 1, query_blocks, most]`, ascending, none after the query block's last token; only
    the first `counts`, int32 `[rows, heads or 1, query_blocks]`, of them are read. Of the first query block, `skip`
    tokens lie before the queries.
    """

    blocks: torch.Tensor
    counts: torch.Tensor
    size: int
    skip: int = 0


@triton.jit
def _attend_block(
    q,
    most,
    weight,
    mixed,
    keys,
    values,
    begin,
    length,
    row_of_query,
    key_token,
    value_token,
    scale,
    HEAD: tl.constexpr,
    KEYS: tl.constexpr,
    MASKED: tl.constexpr,
):
    n = begin + tl.arange(0, KEYS)
    d = tl.arange(0, HEAD)
    at_key = keys + n[None, :] * key_token + d[:, None]
    at_value = values + n[:, None] * value_token + d[None, :]
    if MASKED:
        k = tl.load(at_key, mask=(n < length)[None, :], other=0.0)
        v = tl.load(at_value, mask=(n < length)[:, None], other=0.0)
    else:
        k = tl.load(at_key)
        v = tl.load(at_value)
    scores = tl.dot(q, k, input_precision="ieee")
    if MASKED:
        scores = tl.where((n[None, :] <= row_of_query[:, None]) & (n < length)[None, :], scores, float("-inf"))
    now = tl.maximum(most, tl.max(scores, 1) * scale)
    safe = tl.where(now == float("-inf"), 0.0, now)
    p = tl.exp2(scores * scale - safe[:, None])
    fade = tl.exp2(most - safe)
    weight = weight * fade + tl.sum(p, 1)
    mixed = tl.dot(p.to(v.dtype), v, mixed * fade[:, None], input_precision="ieee")
    return now, weight, mixed


# These change with every chunk, and a kernel is not to be compiled anew for numbers that 16 divides.
@triton.jit(
    do_not_specialize=[
        "new", "length", "skip", "blocks_row", "blocks_head", "blocks_query", "counts_row", "counts_head"
    ]
)  # fmt: skip
def _prefill_kernel(
    query,
    keys,
    values,
    blocks,
    counts,
    out,
    scale,
    new,
    length,
    skip,
    query_row,
    query_head,
    query_token,
    keys_row,
    keys_head,
    key_token,
    values_row,
    values_head,
    value_token,
    out_row,
    out_head,
    out_token,
    blocks_row,
    blocks_head,
    blocks_query,
    counts_row,
    counts_head,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    SIZE: tl.constexpr,
    LISTED: tl.constexpr,
    STAGES: tl.constexpr,
):
    # The last query blocks have the most to read; they go first.
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    row = (tl.program_id(1) // HEADS).to(tl.int64)
    head = (tl.program_id(1) % HEADS).to(tl.int64)
    kv_head = head // GROUP
    m = block * QUERIES + tl.arange(0, QUERIES) - skip
    inside = (m >= 0) & (m < new)
    d = tl.arange(0, HEAD)
    start = length - new
    position = start + m
    at_query = query + row * query_row + head * query_head + m.to(tl.int64)[:, None] * query_token + d[None, :]
    q = tl.load(at_query, mask=inside[:, None], other=0.0)
    keys += row * keys_row + kv_head * keys_head
    values += row * values_row + kv_head * values_head
    most = tl.full((QUERIES,), float("-inf"), tl.float32)
    weight = tl.zeros((QUERIES,), tl.float32)
    mixed = tl.zeros((QUERIES, HEAD), tl.float32)
    first = start - skip + block * QUERIES
    if LISTED:
        line = block * QUERIES // SIZE
        own = blocks + row * blocks_row + head * blocks_head + line.to(tl.int64) * blocks_query
        count = tl.load(counts + row * counts_row + head * counts_head + line)
    else:
        own = blocks
        count = (tl.minimum(first + QUERIES, length) + SIZE - 1) // SIZE
    # Blocks that end before the first query need no mask. Lists ascend, so the others are the last.
    whole = first // SIZE
    if LISTED:
        free = count
        for back in tl.static_range(1 + (QUERIES + SIZE - 1) // SIZE):
            last = tl.load(own + tl.maximum(count - 1 - back, 0))
            free = tl.where((count > back) & (last >= whole), count - 1 - back, free)
    else:
        free = tl.minimum(whole, count)
    steps: tl.constexpr = SIZE // KEYS
    if LISTED:
        ahead = tl.load(own)
        for step in tl.range(0, free * steps, num_stages=STAGES):
            begin = ahead * SIZE + (step % steps) * KEYS
            # The next block's number is asked for before it is needed.
            ahead = tl.load(own + tl.minimum((step + 1) // steps, count - 1))
            most, weight, mixed = _attend_block(
                q, most, weight, mixed, keys, values, begin, length, position, key_token, value_token, scale,
                HEAD, KEYS, False,
            )  # fmt: skip
    else:
        for step in tl.range(0, free * steps, num_stages=STAGES):
            most, weight, mixed = _attend_block(
                q, most, weight, mixed, keys, values, step * KEYS, length, position, key_token, value_token, scale,
                HEAD, KEYS, False,
            )  # fmt: skip
    for step in tl.range(free * steps, count * steps, num_stages=1):
        number = tl.load(own + step // steps) if LISTED else step // steps
        begin = number * SIZE + (step % steps) * KEYS
        most, weight, mixed = _attend_block(
            q, most, weight, mixed, keys, values, begin, length, position, key_token, value_token, scale,
            HEAD, KEYS, True,
        )  # fmt: skip
    mixed = mixed / tl.where(weight > 0.0, weight, 1.0)[:, None]
    at_out = out + row * out_row + head * out_head + m.to(tl.int64)[:, None] * out_token + d[None, :]
    tl.store(at_out, mixed.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit(do_not_specialize=["width", "query_blocks", "start"])
def _list_kernel(mask, blocks, counts, width, query_blocks, start, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    end = start + (tl.program_id(0) % query_blocks + 1) * SIZE
    past = (index < width) & (index * SIZE < end)
    chosen = (tl.load(mask + line * width + index, mask=past, other=0) != 0).to(tl.int32)
    place = tl.cumsum(chosen, 0) - 1
    tl.store(blocks + line * width + place, index, mask=chosen != 0)
    tl.store(counts + line, tl.sum(chosen, 0))


def listed(mask: BlockMask) -> BlockLists:
    """The lists of a mask's blocks, made on the device; blocks that the causal rule forbids are left out."""
    skip = mask.start % mask.size
    chosen = mask.blocks.contiguous()
    width = chosen.shape[3]
    if width > MOST_PAGES:
        raise EngineFailed(f"a prompt of {width} blocks is longer than {MOST_PAGES}; use larger blocks")
    blocks = torch.empty(chosen.shape, dtype=torch.int32, device=chosen.device)
    counts = torch.empty(chosen.shape[:3], dtype=torch.int32, device=chosen.device)
    block = triton.next_power_of_2(max(16, width))
    _list_kernel[(counts.numel(),)](
        chosen.to(torch.int8), blocks, counts, width, chosen.shape[2], mask.start - skip, SIZE=mask.size, BLOCK=block
    )
    return BlockLists(blocks, counts, mask.size, skip)


def prefill(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lists: BlockLists | None,
    scale: float,
    *,
    tile: tuple[int, int] | None = None,
    warps: int | None = None,
    stages: int | None = None,
) -> torch.Tensor:
    """As `Attend.prefill`, over the blocks of `lists`, or all. A query whose list is empty gives zeros.

    `tile` are the queries and keys of a step. The result lies in memory as `[rows, new, heads, size]`.
    """
    rows, heads, new, head_size = query.shape
    kv_heads, length = keys.shape[1], keys.shape[2]
    query, keys, values = (part if part.stride(3) == 1 else part.contiguous() for part in (query, keys, values))
    size = lists.size if lists else 128
    if size < 16 or size & (size - 1):
        raise EngineFailed(f"blocks of {size} tokens do not fit the kernel; use a power of two from 16")
    queries, step = tile or (min(128, size), min(64, size))
    skip = lists.skip if lists else 0
    out = torch.empty(rows, new, heads, head_size, dtype=query.dtype, device=query.device).transpose(1, 2)
    blocks, counts = (lists.blocks, lists.counts) if lists else (query, query)
    shared = blocks.shape[1] == 1
    _prefill_kernel[(triton.cdiv(skip + new, queries), rows * heads)](
        query,
        keys,
        values,
        blocks,
        counts,
        out,
        scale * _LOG2_E,
        new,
        length,
        skip,
        *query.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        *out.stride()[:3],
        blocks.stride(0),
        0 if shared else blocks.stride(1),
        blocks.stride(2),
        counts.stride(0),
        0 if shared else counts.stride(1),
        HEADS=heads,
        GROUP=heads // kv_heads,
        HEAD=head_size,
        QUERIES=queries,
        KEYS=step,
        SIZE=size,
        LISTED=lists is not None,
        STAGES=stages or _stages(queries, step, head_size * query.dtype.itemsize, query.device),
        num_warps=warps or (8 if queries >= 128 and head_size >= 128 else 4),
    )
    return out


@cache
def _stages(queries: int, step: int, token_bytes: int, device: torch.device) -> int:
    """Steps that are loaded at once: three, or as many as a program's shared memory holds beside its queries."""
    if device.type != "cuda":
        return _MOST_STAGES
    properties = torch.cuda.get_device_properties(device)
    room = getattr(properties, "shared_memory_per_block_optin", _LEAST_SHARED) - _SPARE_SHARED
    return max(1, min(_MOST_STAGES, (room // token_bytes - queries) // (2 * step)))


def run_means(tokens: torch.Tensor, run: int) -> torch.Tensor:
    """Means of runs of `run` tokens: `[rows, heads, tokens, size]` to `[rows, heads, ceil(tokens / run), size]`."""
    rows, heads, length, size = tokens.shape
    whole = length // run * run
    means = tokens[:, :, :whole].reshape(rows, heads, whole // run, run, size).mean(3)
    if whole < length:
        means = torch.cat((means, tokens[:, :, whole:].mean(2, keepdim=True)), 2)
    return means


def estimate(
    query: torch.Tensor,
    key_means: torch.Tensor,
    length: int,
    budget: int,
    *,
    size: int = 128,
    run: int = 16,
    sinks: int = 1,
    recent: int = 2,
) -> BlockLists:
    """The `budget` key blocks that each query block most likely needs: the first, the last, and the best between.

    `query` is `[rows, heads, new, head_size]`, the last of `length` tokens; `key_means` are the `run_means` of all
    keys, `[rows, kv_heads, ceil(length / run), head_size]`. A block's score is the largest product of a run's mean in
    it with a run's mean of the query block.
    """
    rows, heads, new, _ = query.shape
    kv_heads, per = key_means.shape[1], size // run
    if per * run != size:
        raise EngineFailed(f"blocks of {size} tokens are not whole runs of {run}; choose a run that divides the block")
    query_blocks, key_blocks = triton.cdiv(new, size), triton.cdiv(length, size)
    query_means = run_means(query, run)
    missing = query_blocks * per - query_means.shape[2]
    if missing:
        query_means = torch.cat((query_means, query_means[:, :, -1:].expand(-1, -1, missing, -1)), 2)
    keys = key_means[:, :, : triton.cdiv(length, run)]
    best = query.new_empty(rows, heads, query_blocks, key_blocks, dtype=torch.float32)
    # One KV head at a time bounds the memory: runs of the prompt by runs of the chunk.
    group = heads // kv_heads
    for head in range(kv_heads):
        of_group = query_means[:, head * group : (head + 1) * group]
        products = of_group @ keys[:, head : head + 1].transpose(2, 3)
        short = key_blocks * per - products.shape[3]
        if short:
            products = torch.nn.functional.pad(products, (0, short), value=float("-inf"))
        products = products.view(rows, group, query_blocks, per, key_blocks, per)
        best[:, head * group : (head + 1) * group] = products.amax((3, 5))
    start = length - new
    ends = torch.arange(1, query_blocks + 1, device=query.device, dtype=torch.int32) * size + start
    limits = (ends.clamp_max(length) + (size - 1)) // size
    blocks, counts = select(best, limits, min(budget, max(key_blocks, sinks + recent)), sinks=sinks, recent=recent)
    return BlockLists(blocks, counts, size)


def prefill_chosen(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_means: torch.Tensor,
    scale: float,
    *,
    budget: int = 64,
    exact: int = 0,
    size: int = 128,
    run: int = 16,
) -> tuple[torch.Tensor, BlockLists | None]:
    """As `Attend.prefill`, over the blocks of `estimate`, but the last `exact` queries read everything; and the lists.

    `exact` is for a chunk that ends a prompt; of 128K tokens, the last 128 have a 512th of the attention. 64 blocks of
    128 hold 8,192 tokens, so that shorter prompts are read as by dense attention. Without queries before the exact ones
    there are no lists.
    """
    new, length = query.shape[2], keys.shape[2]
    chosen = new - min(exact, new)
    if not chosen:
        return prefill(query, keys, values, None, scale), None
    before = length - new + chosen
    lists = estimate(query[:, :, :chosen], key_means, before, budget, size=size, run=run)
    out = prefill(query[:, :, :chosen], keys[:, :, :before], values[:, :, :before], lists, scale)
    if chosen == new:
        return out, lists
    rest = prefill(query[:, :, chosen:], keys, values, None, scale)
    return torch.cat((out, rest), 2), lists
