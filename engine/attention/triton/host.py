"""A document's pages in host memory, those in use on the card: the tier that holds what the card cannot.

Kernels read pinned host memory over the bus themselves, so that which pages are fetched is decided on the card and no
step waits for the host (as HiSparse does, SGLang 2026). Each KV head keeps its own pages on the card, and the page
that was used the longest time ago makes room. What follows the document stays on the card for good.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.attention.triton.append import summarize, summary_width
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.retrieve import Retriever
from longleaf.engine.attention.triton.select import chosen_places, select_warps
from longleaf.engine.errors import EngineFailed


@triton.jit
def _place_kernel(
    pages,
    counts,
    slot_of,
    page_of,
    used,
    clock,
    victims,
    places,
    fetches,
    traffic,
    budget,
    logical,
    host_pages,
    SLOTS: tl.constexpr,
    BUDGET: tl.constexpr,
):
    head = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, BUDGET)
    s = tl.arange(0, SLOTS)
    count = tl.load(counts + head)
    page = tl.load(pages + head * budget + b, mask=b < count, other=-1)
    tail = page >= host_pages
    wanted = (b < count) & (page < host_pages)
    slot = tl.load(slot_of + head * logical + page, mask=wanted, other=-1)
    hit = wanted & (slot >= 0)
    miss = wanted & (slot < 0)
    now = tl.load(clock + head) + 1
    tl.store(used + head * SLOTS + slot, tl.zeros_like(slot) + now, mask=hit)
    tl.debug_barrier()
    stamps = tl.load(used + head * SLOTS + s)
    # The longest unused have the largest keys. Hits were stamped just now, and slots outnumber a plan's pages.
    missing = tl.sum(miss.to(tl.int32), 0)
    chosen, place = chosen_places((0x7FFFFFFF - stamps).to(tl.uint32), SLOTS, missing)
    tl.store(victims + head * BUDGET + place, s, mask=chosen)
    tl.debug_barrier()
    target = tl.load(victims + head * BUDGET + tl.cumsum(miss.to(tl.int32), 0) - 1, mask=miss, other=0)
    old = tl.load(page_of + head * SLOTS + target, mask=miss, other=-1)
    tl.store(slot_of + head * logical + old, tl.full((BUDGET,), -1, tl.int32), mask=miss & (old >= 0))
    tl.store(slot_of + head * logical + page, target, mask=miss)
    tl.store(page_of + head * SLOTS + target, page, mask=miss)
    tl.store(used + head * SLOTS + target, tl.zeros_like(target) + now, mask=miss)
    found = tl.where(tail, SLOTS + page - host_pages, tl.where(hit, slot, target))
    tl.store(places + head * budget + b, found, mask=b < count)
    tl.store(fetches + head * budget + b, tl.where(miss, target, -1), mask=b < budget)
    tl.store(clock + head, now)
    tl.store(traffic + head * 2, tl.load(traffic + head * 2) + tl.sum(hit.to(tl.int64), 0))
    tl.store(traffic + head * 2 + 1, tl.load(traffic + head * 2 + 1) + missing.to(tl.int64))


@triton.jit
def _fetch_kernel(
    host,
    key_scales,
    value_scales,
    keys,
    values,
    pages,
    fetches,
    budget,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALED: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    entry = head * budget + tl.program_id(0)
    slot = tl.load(fetches + entry).to(tl.int64)
    if slot >= 0:
        page = tl.load(pages + entry).to(tl.int64)
        t = tl.arange(0, PAGE)
        d = tl.arange(0, HEAD)
        inner = t[:, None] * HEAD + d[None, :]
        source = host + (page * HEADS + head) * 2 * PAGE * HEAD + inner
        k = tl.load(source)
        v = tl.load(source + PAGE * HEAD)
        if SCALED:
            by_channel = tl.load(key_scales + (page * HEADS + head) * HEAD + d).to(tl.float32)
            by_token = tl.load(value_scales + (page * HEADS + head) * PAGE + t).to(tl.float32)
            k = k.to(tl.float32) * by_channel[None, :]
            v = v.to(tl.float32) * by_token[:, None]
        place = (slot * HEADS + head) * PAGE * HEAD + inner
        tl.store(keys + place, k.to(keys.dtype.element_ty))
        tl.store(values + place, v.to(values.dtype.element_ty))


def quantise(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pages in int8: `[pages, kv_heads, page, size]` keys and values to `[pages, kv_heads, 2, page, size]`.

    Keys have one scale for each channel of a page (bfloat16 `[pages, kv_heads, size]`), because some channels of keys
    are large in every token; values have one for each token (`[pages, kv_heads, page]`) (KIVI, Liu et al., 2024).
    """
    by_channel = (keys.float().abs().amax(2) / 127).clamp_min(1e-8).bfloat16()
    by_token = (values.float().abs().amax(3) / 127).clamp_min(1e-8).bfloat16()
    small = torch.stack(
        (keys.float() / by_channel[:, :, None].float(), values.float() / by_token[..., None].float()), 2
    )
    return small.round().clamp(-127, 127).to(torch.int8), by_channel, by_token


class HostLayer:
    """A layer of a decode step whose document lies in host memory; one row.

    `host` is `[document pages, kv_heads, 2, page, head_size]`, keys then values: pinned memory where there is a card,
    int8 with `scales` of `quantise`, or the card's own type. `slots` pages of each head are kept on the card, a power
    of two, and up to `tail` pages that follow the document, which must be whole pages long.
    """

    def __init__(
        self,
        host: torch.Tensor,
        scales: tuple[torch.Tensor, torch.Tensor] | None,
        retriever: Retriever,
        decoder: Decoder,
        *,
        slots: int,
        tail: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        pages, heads, _, page, head_size = host.shape
        if slots < max(16, retriever.budget) or slots & (slots - 1):
            raise EngineFailed(
                f"{slots} pages on the card cannot serve plans of {retriever.budget}; use a power of two, 16 or more, "
                "no fewer than the plan's"
            )
        if host.dtype != torch.int8 and scales is not None:
            raise EngineFailed("scales belong to int8 pages alone")
        if device.type == "cuda" and not host.is_pinned():
            raise EngineFailed("pages in host memory must be pinned for a card to read them")
        self.host, self._scales = host.contiguous(), scales
        self._retriever, self._decoder = retriever, decoder
        self._pages, self._slots = pages, slots
        self.keys = torch.empty(slots + tail, heads, page, head_size, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        # Summaries of the document stand after those of the pages on the card, so that one table serves both.
        self._first = slots + tail
        width = summary_width(retriever.kind, page, head_size)
        self.summary = torch.zeros(self._first + pages, heads, width, dtype=dtype, device=device)
        document = torch.arange(pages, dtype=torch.int32, device=device) + self._first
        following = torch.arange(tail, dtype=torch.int32, device=device) + slots
        self.table = torch.cat((document, following))[None]
        self._slot_of = torch.full((heads, pages), -1, dtype=torch.int32, device=device)
        self._page_of = torch.full((heads, slots), -1, dtype=torch.int32, device=device)
        self._used = torch.zeros(heads, slots, dtype=torch.int32, device=device)
        self._clock = torch.zeros(heads, dtype=torch.int32, device=device)
        self._victims = torch.zeros(heads, triton.next_power_of_2(retriever.budget), dtype=torch.int32, device=device)
        self.plan: Plan | None = None
        # Of each head: pages found on the card, and pages fetched.
        self.traffic = torch.zeros(heads, 2, dtype=torch.int64, device=device)

    def describe(self, first: int, keys: torch.Tensor) -> None:
        """Summaries of document pages from `first` on, from their keys `[pages, kv_heads, page, head_size]`."""
        count = len(keys)
        physical = torch.arange(count, device=keys.device)
        filled = torch.full((count,), keys.shape[2], dtype=torch.int32, device=keys.device)
        begin = self._first + first
        summarize(self.summary[begin : begin + count], keys, physical, filled, self._retriever.kind)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """As `StepLayer`."""
        paged = Paged(self.keys, self.values, self.table, lengths)
        plan = self.plan = self._retriever(query, self.summary, paged, scale, new=(key, value))
        return self._decoder(query, paged, plan, scale, places=self.bring(plan))

    def bring(self, plan: Plan) -> torch.Tensor:
        """Fetches what the plan names and the card lacks; returns where its pages lie, of the shape of its pages."""
        _, heads, budget = plan.pages.shape
        page, head_size = self.keys.shape[2:]
        places = torch.zeros_like(plan.pages)
        fetches = torch.empty_like(plan.pages)
        _place_kernel[(heads,)](
            plan.pages,
            plan.counts,
            self._slot_of,
            self._page_of,
            self._used,
            self._clock,
            self._victims,
            places,
            fetches,
            self.traffic,
            budget,
            self._pages,
            self._pages,
            SLOTS=self._slots,
            BUDGET=self._victims.shape[1],
            num_warps=max(4, select_warps(self._slots)),
        )
        key_scales, value_scales = self._scales or (self.keys, self.values)
        _fetch_kernel[(budget, heads)](
            self.host,
            key_scales,
            value_scales,
            self.keys,
            self.values,
            plan.pages,
            fetches,
            budget,
            PAGE=page,
            HEADS=heads,
            HEAD=head_size,
            SCALED=self._scales is not None,
        )
        return places
