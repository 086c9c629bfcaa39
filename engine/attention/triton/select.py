"""The best pages of a row, in reading order: an exact top-k that stays on the device.

A row's scores are held in registers and the k-th largest is searched for by its bits, two at a time: 16 rounds of one
reduction each at most, fewer where the scores part early. What is above it is then written in order by a prefix sum.
No sort, no scratch memory, and a launch whose shape does not depend on the data.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longleaf.engine.errors import EngineFailed

MOST_PAGES = 32768
_FORCED = tl.constexpr(0xFFFFFFFF)
_THIRD = tl.constexpr(0xFFFFF)
_LOW_HALF = tl.constexpr(0xFFFFFFFF)


@triton.jit
def ordered(scores):
    """Unsigned integers in the order of the float32 `scores`; NaN counts as -inf. None is 0, which means no page."""
    scores = tl.where(scores == scores, scores, float("-inf"))
    bits = scores.to(tl.uint32, bitcast=True)
    return tl.where((bits >> 31) != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def page_keys(scores, index, limit, sinks, recent):
    """What pages are chosen by: the first `sinks` and last `recent` of `limit` before all others, none past it."""
    forced = (index < sinks) | (index >= limit - recent)
    keys = tl.where(forced, tl.full(scores.shape, _FORCED, tl.uint32), ordered(scores))
    return tl.where(index < limit, keys, tl.full(scores.shape, 0, tl.uint32))


@triton.jit
def kth_largest(keys, limit, wanted):
    """A number that at least `wanted` of the keys reach, and fewer than `wanted` exceed; `limit` keys are not 0."""
    low = tl.full((), 0, tl.uint32)
    one = tl.full((), 1, tl.uint32)
    reached = limit
    shift = 30
    while (shift >= 0) & (reached != wanted):
        step = one << shift.to(tl.uint32)
        first = low + step
        second = first + step
        third = second + step
        # Three counts in one reduction, 20 bits each.
        marks = (keys >= first).to(tl.int64) + ((keys >= second).to(tl.int64) << 20)
        marks += (keys >= third).to(tl.int64) << 40
        counts = tl.sum(marks, 0)
        over_first = (counts & _THIRD).to(tl.int32)
        over_second = ((counts >> 20) & _THIRD).to(tl.int32)
        over_third = (counts >> 40).to(tl.int32)
        low = tl.where(
            over_third >= wanted,
            third,
            tl.where(over_second >= wanted, second, tl.where(over_first >= wanted, first, low)),
        )
        reached = tl.where(
            over_third >= wanted,
            over_third,
            tl.where(over_second >= wanted, over_second, tl.where(over_first >= wanted, over_first, reached)),
        )
        shift -= 2
    return low


@triton.jit
def chosen_places(keys, limit, wanted):
    """Which keys are the `wanted` largest, the earlier where they tie, and the place of each among the chosen."""
    low = kth_largest(keys, limit, wanted)
    above = (keys > low).to(tl.int32)
    level = (keys == low).to(tl.int32)
    needed = wanted - tl.sum(above, 0)
    ranks = tl.cumsum(above.to(tl.int64) + (level.to(tl.int64) << 32), 0)
    rank_above = (ranks & _LOW_HALF).to(tl.int32)
    rank_level = (ranks >> 32).to(tl.int32)
    chosen = (above != 0) | ((level != 0) & (rank_level <= needed))
    return chosen, rank_above + tl.minimum(rank_level, needed) - 1


@triton.jit
def choose(scores, index, limit, budget, sinks, recent, pages, count, BUDGET: tl.constexpr):
    """Writes the chosen of one row's `scores` to `pages`, ascending, -1 after the last, and how many to `count`."""
    wanted = tl.minimum(limit, budget)
    keys = page_keys(scores, index, limit, sinks, recent)
    chosen, place = chosen_places(keys, limit, wanted)
    tl.store(pages + place, index, mask=chosen)
    slots = tl.arange(0, BUDGET)
    tl.store(pages + slots, tl.full((BUDGET,), -1, tl.int32), mask=(slots >= wanted) & (slots < budget))
    tl.store(count, wanted)


@triton.jit
def _select_kernel(
    scores, limits, pages, counts, width, budget, sinks, recent, BLOCK: tl.constexpr, BUDGET: tl.constexpr
):
    line = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    limit = tl.minimum(tl.load(limits + line), width)
    values = tl.load(scores + line * width + index, mask=index < limit, other=0.0)
    choose(values, index, limit, budget, sinks, recent, pages + line * budget, counts + line, BUDGET)


def select(
    scores: torch.Tensor, limits: torch.Tensor, budget: int, *, sinks: int = 1, recent: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `budget` best pages of each line of `scores`, float32 `[..., pages]`; `limits`, int32 `[...]`, exist.

    The first `sinks` and the last `recent` are always chosen. Returns the pages, int32 `[..., budget]`, ascending and
    -1 after the last, and their counts, int32 `[...]`. Exact; of equal scores at the border the earlier pages win.
    """
    check_budget(budget, sinks, recent, scores.shape[-1])
    scores, limits = scores.contiguous(), limits.to(torch.int32).expand(scores.shape[:-1]).contiguous()
    pages = torch.empty(*scores.shape[:-1], budget, dtype=torch.int32, device=scores.device)
    counts = torch.empty(scores.shape[:-1], dtype=torch.int32, device=scores.device)
    block = triton.next_power_of_2(max(scores.shape[-1], 16))
    _select_kernel[(limits.numel(),)](
        scores,
        limits,
        pages,
        counts,
        scores.shape[-1],
        budget,
        sinks,
        recent,
        BLOCK=block,
        BUDGET=triton.next_power_of_2(budget),
        num_warps=select_warps(block),
    )
    return pages, counts


def check_budget(budget: int, sinks: int, recent: int, pages: int) -> None:
    """Raises `EngineFailed` where a selection cannot keep its promises."""
    if recent < 1 or sinks < 0 or budget < sinks + recent:
        raise EngineFailed(
            f"a budget of {budget} pages cannot hold {sinks} first and {recent} last ones; "
            "raise the budget, and keep at least one last page"
        )
    if pages > MOST_PAGES:
        raise EngineFailed(f"one row has {pages} pages and {MOST_PAGES} can be chosen from; use larger pages")


def select_warps(block: int) -> int:
    """Warps for a row of `block` scores: about 16 scores a thread, as far as a program's threads go."""
    return max(1, min(32, block // 512))
