"""Decode attention of one layer on a GPU: the kernels that choose and attend, beside the dense ones of torch."""

from __future__ import annotations

import argparse
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch
from gpu_report import (
    BF16,
    BUDGET,
    CARD,
    GROUP,
    HEAD,
    HEADS,
    KV_HEADS,
    SCALE,
    K,
    Report,
    demand,
    error,
    microseconds,
    poison,
    release,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.attention.triton.append import Kind, summarize, summary_width
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.retrieve import Retriever, score
from longleaf.engine.attention.triton.select import select

_KINDS: tuple[Kind, ...] = ("minmax", "mean")


@dataclass
class Pool:
    paged: Paged
    summary: torch.Tensor


def pools(rows: int, tokens: int, page: int, layers: int, kind: Kind) -> list[Pool]:
    """Random pages of some layers; a row's pages lie in any order, its last page is partly filled."""
    logical = tokens // page
    found = []
    for _ in range(layers):
        keys = torch.randn(rows * logical + 1, KV_HEADS, page, HEAD, device=CARD, dtype=BF16)
        values = torch.randn_like(keys)
        table = (torch.randperm(rows * logical, device=CARD).int() + 1).view(rows, logical)
        lengths = torch.full((rows,), tokens - 5, device=CARD, dtype=torch.int32)
        width = summary_width(kind, page, HEAD)
        summary = torch.full((len(keys), KV_HEADS, width), math.nan, device=CARD, dtype=BF16)
        filled = torch.full((len(keys),), page, device=CARD, dtype=torch.int32)
        filled[table[:, -1].long()] = page - 5
        summarize(summary, keys, torch.arange(len(keys), device=CARD), filled, kind)
        found.append(Pool(Paged(keys, values, table, lengths), summary))
    return found


def gathered(paged: Paged, row: int, head: int, pages: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a row's pages in float32, without what is not filled."""
    logical = torch.arange(paged.table.shape[1], device=CARD) if pages is None else pages[pages >= 0].long()
    physical = paged.table[row, logical].long()
    position = logical[:, None] * paged.page + torch.arange(paged.page, device=CARD)
    real = position.flatten() < paged.lengths[row]
    keys, values = (pool[physical, head].flatten(0, 1)[real].float() for pool in (paged.keys, paged.values))
    return keys, values


def reference_decode(query: torch.Tensor, paged: Paged, plan: Plan | None) -> torch.Tensor:
    out = torch.empty(query.shape, device=CARD)
    for row in range(len(query)):
        for head in range(KV_HEADS):
            keys, values = gathered(paged, row, head, None if plan is None else plan.pages[row, head])
            q = query[row, head * GROUP : (head + 1) * GROUP].float()
            out[row, head * GROUP : (head + 1) * GROUP] = (q @ keys.T * SCALE).softmax(-1) @ values
    return out


def expected_scores(query: torch.Tensor, pool: Pool, kind: Kind) -> torch.Tensor:
    """The score of each page for each row and KV head, in float32: that of the query head that likes it best."""
    summary = pool.summary[pool.paged.table.long()].float()
    q = query.float().view(len(query), 1, KV_HEADS, GROUP, HEAD)
    if kind == "minmax":
        low, high = summary[..., None, :HEAD], summary[..., None, HEAD:]
        found = (q.clamp_max(0) * low + q.clamp_min(0) * high).sum(-1).amax(-1)
    else:
        means = summary.unflatten(-1, (-1, HEAD))
        found = (q[..., None, :] * means[..., None, :, :]).sum(-1).amax((-1, -2))
    return found.transpose(1, 2) * SCALE


def check_decode(pool: Pool, rows: int, retriever: Retriever, decoder: Decoder, kind: Kind) -> dict[str, float]:
    paged, page = pool.paged, pool.paged.page
    query = torch.randn(rows, HEADS, HEAD, device=CARD, dtype=BF16)
    new = tuple(torch.randn(rows, KV_HEADS, 1, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    poison()
    plan = retriever(query, pool.summary, paged, SCALE, new=(new[0], new[1]))
    newest = paged.table.gather(1, ((paged.lengths - 1) // page).long()[:, None])[:, 0].long()
    offset = ((paged.lengths - 1) % page).long()
    assert torch.equal(paged.keys[newest, :, offset], new[0][:, :, 0]), "the new token's key is not in its page"
    assert torch.equal(paged.values[newest, :, offset], new[1][:, :, 0]), "the new token's value is not in its page"
    expected = expected_scores(query, pool, kind)
    scores = score(query, pool.summary, paged, SCALE, kind)
    errors = {"score": demand("scores", error(scores, expected), 3e-3)}
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(2, plan.pages.long(), True)
    assert bool((plan.counts == retriever.budget).all()), "a plan is not full"
    assert bool((plan.pages[..., 1:] > plan.pages[..., :-1]).all()), "a plan does not ascend"
    assert bool(chosen[..., 0].all() & chosen[..., -1].all()), "a plan lacks the first or last page"
    inner = scores.clone()
    inner[..., 0] = inner[..., -1] = math.inf
    worst_in = inner.masked_fill(~chosen, math.inf).amin(-1)
    best_out = inner.masked_fill(chosen, -math.inf).amax(-1)
    # The scores are worked out a second time here, so the last bit may differ.
    assert bool((worst_in >= best_out - best_out.abs() * 1e-4).all()), "a page was left out for a worse one"
    poison()
    errors["sparse"] = demand(
        "sparse attention", error(decoder(query, paged, plan, SCALE), reference_decode(query, paged, plan))
    )
    poison()
    dense = decoder(query, paged, None, SCALE)
    errors["dense"] = demand("dense attention", error(dense, reference_decode(query, paged, None)))
    everything = (
        torch.arange(paged.table.shape[1], device=CARD, dtype=torch.int32).expand(rows, KV_HEADS, -1).contiguous()
    )
    counts = torch.full((rows, KV_HEADS), everything.shape[2], device=CARD, dtype=torch.int32)
    errors["full budget"] = demand(
        "full budget", error(decoder(query, paged, Plan(everything, counts), SCALE), dense), 1e-3
    )
    return errors


def dense_baselines(rows: int, tokens: int, *, flex: bool) -> dict[str, float]:
    """Dense decode attention over contiguous keys and values: microseconds of what torch offers."""
    query = torch.randn(rows, HEADS, 1, HEAD, device=CARD, dtype=BF16)
    keys, values = (torch.randn(rows, KV_HEADS, tokens, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    sample = keys[0, 0].float(), values[0, 0].float()
    expected = (query[0, :GROUP, 0].float() @ sample[0].T * SCALE).softmax(-1) @ sample[1]
    folded = query.view(rows, KV_HEADS, GROUP, HEAD)

    def sdpa(backend: SDPBackend, fold: bool) -> torch.Tensor:
        with sdpa_kernel(backend):
            # The query heads of a group as queries of one head: the same numbers, and no key is read twice.
            if fold:
                out = torch.nn.functional.scaled_dot_product_attention(folded, keys, values)
                return out.reshape(rows, HEADS, 1, HEAD)
            return torch.nn.functional.scaled_dot_product_attention(query, keys, values, enable_gqa=True)

    tried: dict[str, Callable[[], torch.Tensor]] = {
        "flash": lambda: sdpa(SDPBackend.FLASH_ATTENTION, False),
        "flash, folded": lambda: sdpa(SDPBackend.FLASH_ATTENTION, True),
        "cudnn": lambda: sdpa(SDPBackend.CUDNN_ATTENTION, False),
        "cudnn, folded": lambda: sdpa(SDPBackend.CUDNN_ATTENTION, True),
    }
    if flex:
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(flex_attention, dynamic=False)
        tried["flex"] = lambda: compiled(query, keys, values, enable_gqa=True)
    times = {}
    for name, function in tried.items():
        try:
            demand(name, error(function()[0, :GROUP, 0], expected))
            times[name] = microseconds(function)
        except Exception as failure:  # noqa: BLE001 - a backend that refuses is left out of the comparison
            print(f"dense baseline {name} is left out: {str(failure)[:200]}", flush=True)
    return times


def kernels(report: Report, options: argparse.Namespace) -> None:
    for pages in (512, 2048, 4096, 16384):
        scores = torch.randn(KV_HEADS, pages, device=CARD)
        limits = torch.full((KV_HEADS,), pages, device=CARD, dtype=torch.int32)
        found, _ = select(scores, limits, 32, sinks=0, recent=1)
        forced = scores.clone()
        forced[:, -1] = math.inf
        assert torch.equal(found.long(), forced.topk(32).indices.sort().values), "select differs from torch.topk"
        report.add(
            "choosing 32 pages, 8 KV heads",
            pages=pages,
            select_us=microseconds(lambda s=scores, m=limits: select(s, m, 32)),
            topk_us=microseconds(lambda s=scores: torch.topk(s, 32, dim=1, sorted=False)),
        )
    # Every page size is compiled anew, which takes seconds.
    shapes = {(1, 128): (64, 128, 32), (4, 128): (64, 128), (1, 256): (64,), (1, 32): (64,), (8, 32): (64,)}
    for (rows, thousands), pages_tried in shapes.items():
        tokens = thousands * K
        dense = dense_baselines(rows, tokens, flex=options.flex and (rows, thousands) == (1, 128))
        for page in pages_tried:
            for kind in _KINDS:
                try:
                    _decode_row(report, rows, tokens, page, dense, kind)
                except Exception:  # noqa: BLE001 - the other shapes go on
                    traceback.print_exc()
                release()
    _variants(report)


def _decode_row(report: Report, rows: int, tokens: int, page: int, dense: dict[str, float], kind: Kind) -> None:
    layers = 2 if rows * tokens > 256 * K else 4
    found = pools(rows, tokens, page, layers, kind)
    retriever, decoder = Retriever(BUDGET // page, kind=kind), Decoder()
    errors = check_decode(found[0], rows, retriever, decoder, kind)
    queries = [torch.randn(rows, HEADS, HEAD, device=CARD, dtype=BF16) for _ in found]
    new = [torch.randn(rows, KV_HEADS, 1, HEAD, device=CARD, dtype=BF16) for _ in range(2)]

    def choose(index: int) -> Plan:
        return retriever(queries[index], found[index].summary, found[index].paged, SCALE, new=(new[0], new[1]))

    def whole(index: int) -> torch.Tensor:
        return decoder(queries[index], found[index].paged, choose(index), SCALE)

    def all_layers() -> None:
        for index in range(layers):
            whole(index)

    plan = choose(0)
    if "ours, paged" not in dense:
        dense["ours, paged"] = microseconds(lambda: decoder(queries[0], found[0].paged, None, SCALE))
    best = min(dense, key=lambda name: dense[name])
    alone = microseconds(lambda: whole(0))
    chain = microseconds(all_layers, each=layers)
    kv = rows * KV_HEADS * HEAD * 2 * 2
    read = kv * BUDGET + found[0].summary[0].numel() * 2 * rows * (tokens // page)
    report.add(
        "decode attention, one layer, 2,048 tokens read",
        shape=f"{rows} x {tokens // K}K",
        page=page,
        by=kind,
        dense_us=dense[best],
        dense_by=best,
        dense_roofline=f"{kv * tokens / report.bandwidth / dense[best] * 1e6:.0%}",
        choose_us=microseconds(lambda: choose(0)),
        attend_us=microseconds(lambda: decoder(queries[0], found[0].paged, plan, SCALE)),
        sparse_us=alone,
        in_chain_us=chain,
        speedup=dense[best] / alone,
        speedup_chain=dense[best] / chain,
        tb_s=read / chain / 1e6,
        roofline=f"{read / report.bandwidth / chain * 1e6:.0%}",
        error=max(errors.values()),
    )
    report.note(**{f"dense {rows} x {tokens // K}K": {k: round(v, 1) for k, v in dense.items()}})


def _variants(report: Report) -> None:
    """What the launches' shapes cost at 1 x 128K, page 64; the engine's own choice is the first row."""
    pool = pools(1, 128 * K, 64, 1, "minmax")[0]
    query = torch.randn(1, HEADS, HEAD, device=CARD, dtype=BF16)
    fused, apart = (Retriever(BUDGET // 64, kind="minmax", fused=one) for one in (True, False))
    plan = fused(query, pool.summary, pool.paged, SCALE)
    for name, retriever in (("choose in one launch", fused), ("choose in two", apart)):
        report.add(
            "variants, 1 x 128K, page 64",
            variant=name,
            us=microseconds(lambda r=retriever: r(query, pool.summary, pool.paged, SCALE)),
        )
    shapes = ((None, None, None), (None, None, 4), (16, 64, 4), (32, 64, 8), (16, 128, 8), (64, 32, 4), (32, 64, 2))
    for splits, tile, warps in shapes:
        try:
            decoder = Decoder(splits=splits, tile=tile, warps=warps)
            demand("variant", error(decoder(query, pool.paged, plan, SCALE), reference_decode(query, pool.paged, plan)))
            us = microseconds(lambda d=decoder: d(query, pool.paged, plan, SCALE))
            report.add(
                "variants, 1 x 128K, page 64", variant=f"attend: {splits} splits, tile {tile}, {warps} warps", us=us
            )
        except Exception as failure:  # noqa: BLE001
            print(f"variant {splits} {tile} {warps}: {str(failure)[:200]}", flush=True)
