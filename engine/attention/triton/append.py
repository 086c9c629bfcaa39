"""New tokens go to their pages, and a page's summary follows: min and max of its keys (Quest, 2024), or their means.

A mean is that of `MEAN_RUN` tokens, so a page of 64 has four and takes twice the room of min and max (ShadowKV,
Sun et al., 2025, has a mean every 8). On a trained model means find what the bound of min and max misses: the bound
adds up what different tokens hold, and grows with a page's spread.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
import triton.language as tl

from longleaf.engine.attention.contract import Paged
from longleaf.engine.errors import EngineFailed

Kind = Literal["minmax", "mean"]
MEAN_RUN = 16


@triton.jit
def describe(keys, filled, summary, PAGE: tl.constexpr, HEAD: tl.constexpr, WIDTH: tl.constexpr, MINMAX: tl.constexpr):
    """Writes to `summary` what the `filled` rows of `keys`, `[PAGE, HEAD]`, have in common.

    Means are of `WIDTH // HEAD` equal runs of the page; a run that is empty yet has the mean of the whole page.
    """
    d = tl.arange(0, HEAD)
    if MINMAX:
        least = tl.min(tl.where(filled[:, None], keys.to(tl.float32), float("inf")), 0)
        most = tl.max(tl.where(filled[:, None], keys.to(tl.float32), float("-inf")), 0)
        tl.store(summary + d, least.to(summary.dtype.element_ty))
        tl.store(summary + HEAD + d, most.to(summary.dtype.element_ty))
    else:
        run_of = tl.arange(0, PAGE) // (PAGE * HEAD // WIDTH)
        for run in tl.static_range(WIDTH // HEAD):
            empty = tl.sum((filled & (run_of == run)).to(tl.int32), 0) == 0
            own = filled & ((run_of == run) | empty)
            total = tl.sum(tl.where(own[:, None], keys.to(tl.float32), 0.0), 0)
            mean = total / tl.sum(own.to(tl.float32), 0)
            tl.store(summary + run * HEAD + d, mean.to(summary.dtype.element_ty))


@triton.jit
def append_page(
    key,
    value,
    keys,
    values,
    summary,
    physical,
    head,
    logical,
    first,
    length,
    new_token,
    keys_page,
    keys_head,
    values_page,
    values_head,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    MINMAX: tl.constexpr,
):
    """Puts the tokens from `first` up to `length` that belong to page `logical` there, and describes the page anew."""
    t = tl.arange(0, PAGE)
    d = tl.arange(0, HEAD)
    position = logical * PAGE + t
    new = (position >= first) & (position < length)
    source = (position - first)[:, None] * new_token + d[None, :]
    new_keys = tl.load(key + source, mask=new[:, None], other=0.0)
    new_values = tl.load(value + source, mask=new[:, None], other=0.0)
    place = t[:, None] * HEAD + d[None, :]
    pool = keys + physical * keys_page + head * keys_head
    old = tl.load(pool + place, mask=(position < first)[:, None], other=0.0)
    tl.store(pool + place, new_keys, mask=new[:, None])
    tl.store(values + physical * values_page + head * values_head + place, new_values, mask=new[:, None])
    joined = tl.where(new[:, None], new_keys, old)
    describe(joined, position < length, summary + (physical * HEADS + head) * WIDTH, PAGE, HEAD, WIDTH, MINMAX)


@triton.jit
def _append_kernel(
    key,
    value,
    keys,
    values,
    summary,
    table,
    lengths,
    new,
    new_row,
    new_head,
    new_token,
    keys_page,
    keys_head,
    values_page,
    values_head,
    table_row,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    MINMAX: tl.constexpr,
):
    row = (tl.program_id(0) // HEADS).to(tl.int64)
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    length = tl.load(lengths + row)
    first = length - new
    logical = first // PAGE + tl.program_id(1)
    if (first >= 0) & (logical * PAGE < length):
        physical = tl.load(table + row * table_row + logical).to(tl.int64)
        source = row * new_row + head * new_head
        append_page(
            key + source,
            value + source,
            keys,
            values,
            summary,
            physical,
            head,
            logical,
            first,
            length,
            new_token,
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


@triton.jit
def _summarize_kernel(
    keys,
    summary,
    physical,
    filled,
    keys_page,
    keys_head,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    MINMAX: tl.constexpr,
):
    page = tl.load(physical + tl.program_id(0)).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    t = tl.arange(0, PAGE)
    d = tl.arange(0, HEAD)
    real = t < tl.load(filled + tl.program_id(0))
    place = page * keys_page + head * keys_head + t[:, None] * HEAD + d[None, :]
    tile = tl.load(keys + place, mask=real[:, None], other=0.0)
    describe(tile, real, summary + (page * HEADS + head) * WIDTH, PAGE, HEAD, WIDTH, MINMAX)


def append(paged: Paged, summary: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: Kind = "mean") -> None:
    """Put new tokens in their pages and describe those pages anew, in place.

    `key` and `value` are `[rows, kv_heads, new, head_size]`, the last `new` of each row's `lengths`, which count them
    already; rows that are shorter than `new` (padding) are left alone. `summary` is `[physical, kv_heads, width]`.
    """
    rows, heads, new, head_size = key.shape
    _check_pool(paged.keys, paged.values)
    value = value if value.stride() == key.stride() else value.contiguous()
    key = key if value.stride() == key.stride() and key.stride(3) == 1 else key.contiguous()
    value = value if value.stride() == key.stride() else value.contiguous()
    touched = (new + paged.page - 2) // paged.page + 1
    _append_kernel[(rows * heads, touched)](
        key,
        value,
        paged.keys,
        paged.values,
        summary,
        paged.table,
        paged.lengths,
        new,
        key.stride(0),
        key.stride(1),
        key.stride(2),
        paged.keys.stride(0),
        paged.keys.stride(1),
        paged.values.stride(0),
        paged.values.stride(1),
        paged.table.stride(0),
        PAGE=paged.page,
        HEADS=heads,
        HEAD=head_size,
        WIDTH=summary.shape[2],
        MINMAX=kind == "minmax",
    )


def summarize(
    summary: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor, kind: Kind = "mean"
) -> None:
    """Describe pages anew, in place: as `Summary.update` of the contract."""
    _check_pool(keys)
    _, heads, page, head_size = keys.shape
    if not len(physical):
        return
    _summarize_kernel[(len(physical), heads)](
        keys,
        summary,
        physical,
        filled,
        keys.stride(0),
        keys.stride(1),
        PAGE=page,
        HEADS=heads,
        HEAD=head_size,
        WIDTH=summary.shape[2],
        MINMAX=kind == "minmax",
    )


def summary_width(kind: Kind, page: int, head_size: int) -> int:
    """Numbers a page of one head takes."""
    return head_size * (2 if kind == "minmax" else max(1, page // MEAN_RUN))


def _check_pool(*pools: torch.Tensor) -> None:
    for pool in pools:
        if pool.stride(3) != 1 or pool.stride(2) != pool.shape[3]:
            raise EngineFailed(
                f"a pool of pages has strides {tuple(pool.stride())}; the tokens of a page must lie together"
            )
