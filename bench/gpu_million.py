"""A million tokens on one GPU: int8 pages in host memory, those in use on the card."""

from __future__ import annotations

import argparse
import math
import time

import torch
from gpu_report import BF16, BUDGET, CARD, GROUP, HEAD, HEADS, KV_HEADS, LAYERS, SCALE, Report, demand, error
from gpu_step import Models

from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.host import HostLayer, quantise
from longleaf.engine.attention.triton.retrieve import Retriever


def pinned(nbytes: int) -> torch.Tensor:
    """Host memory that a card can read: touched by all cores first, which is what takes the time, and then pinned."""
    memory = torch.empty(nbytes, dtype=torch.int8).zero_()
    code = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), nbytes, 3)  # portable, mapped
    if int(code):
        raise RuntimeError(f"cudaHostRegister answered {code} for {nbytes} bytes")
    return memory


def check_host() -> None:
    pages, page = 300, 64
    keys, values = (torch.randn(pages, KV_HEADS, page, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    small, by_channel, by_token = quantise(keys, values)
    host = small.cpu().pin_memory()
    retriever, decoder = Retriever(8, kind="minmax"), Decoder()
    layer = HostLayer(host, (by_channel, by_token), retriever, decoder, slots=64, tail=2, dtype=BF16, device=CARD)
    layer.keys.fill_(math.nan)
    layer.values.fill_(math.nan)
    layer.describe(0, keys)
    true_keys = small[:, :, 0].float() * by_channel[:, :, None].float()
    true_values = small[:, :, 1].float() * by_token[..., None].float()
    own = torch.zeros(2, KV_HEADS, 0, HEAD, device=CARD)
    for step in range(12):
        query = torch.randn(1, HEADS, HEAD, device=CARD, dtype=BF16)
        new = torch.randn(2, 1, KV_HEADS, 1, HEAD, device=CARD, dtype=BF16)
        lengths = torch.tensor([pages * page + step + 1], device=CARD, dtype=torch.int32)
        out = layer(query, new[0], new[1], lengths, SCALE)
        own = torch.cat((own, new[:, 0].float()), 2)
        plan = layer.plan
        assert plan is not None
        for head in range(KV_HEADS):
            chosen = plan.pages[0, head]
            document = chosen[(chosen >= 0) & (chosen < pages)].long()
            k = torch.cat((true_keys[document, head].flatten(0, 1), own[0, head]))
            v = torch.cat((true_values[document, head].flatten(0, 1), own[1, head]))
            q = query[0, head * GROUP : (head + 1) * GROUP].float()
            expected = (q @ k.T * SCALE).softmax(-1) @ v
            demand("attention over fetched pages", error(out[0, head * GROUP : (head + 1) * GROUP], expected))


def million(report: Report, options: argparse.Namespace, models: Models) -> None:
    check_host()
    page, slots, tail = 64, 2048, 64
    pages = options.million_tokens // page
    retriever, decoder = Retriever(BUDGET // page, kind="minmax"), Decoder()
    step = models.step()
    layers: list[HostLayer] = []
    hosts: list[torch.Tensor] = []
    begun = time.perf_counter()
    for index in range(LAYERS):
        if time.perf_counter() - begun < options.host_seconds:
            hosts.append(pinned(pages * KV_HEADS * 2 * page * HEAD).view(pages, KV_HEADS, 2, page, HEAD))
        host = hosts[index % len(hosts)]
        by_channel = torch.empty(pages, KV_HEADS, HEAD, device=CARD, dtype=BF16)
        by_token = torch.empty(pages, KV_HEADS, page, device=CARD, dtype=BF16)
        layer = HostLayer(
            host, (by_channel, by_token), retriever, decoder, slots=slots, tail=tail, dtype=BF16, device=CARD
        )
        for first in range(0, pages, 2500):
            last = min(first + 2500, pages)
            keys, values = (torch.randn(last - first, KV_HEADS, page, HEAD, device=CARD, dtype=BF16) for _ in range(2))
            small, by_channel[first:last], by_token[first:last] = quantise(keys, values)
            layer.describe(first, keys)
            if index < len(hosts):
                host[first:last].copy_(small, non_blocking=True)
        layers.append(layer)
    torch.cuda.synchronize()
    host_bytes = sum(host.nbytes for host in hosts)
    report.note(
        host_gb=host_bytes / 1e9,
        host_fill_s=time.perf_counter() - begun,
        host_layers=f"{len(hosts)} of {LAYERS} layers have host memory of their own",
    )
    step.use(layers, pages * page + tail * page)
    step.begin([5], [pages * page])
    step.capture()

    def traffic() -> torch.Tensor:
        return torch.stack([layer.traffic for layer in layers]).sum((0, 1)).cpu()

    drawn = torch.randint(0, 128256, (600,), device=CARD)
    moved_page = 2 * page * HEAD

    def measure(name: str, steps: int, random_tokens: bool) -> None:
        before = traffic()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        for index in range(steps):
            if random_tokens:
                step.tokens.copy_(drawn[index].view(1, 1))
            step.run(1)
        last.record()
        torch.cuda.synchronize()
        ms = first.elapsed_time(last) / steps
        hits, misses = (traffic() - before).tolist()
        report.add(
            f"{pages * page:,} tokens, int8 pages in host memory, 8B shape",
            tokens_fed=name,
            ms_a_token=ms,
            hit_rate=hits / max(1, hits + misses),
            mb_a_step=misses * moved_page / steps / 1e6,
            gb_s=misses * moved_page / steps / ms / 1e6,
            card_gb=torch.cuda.memory_allocated() / 1e9,
        )

    measure("random, cache cold", 4, True)
    measure("random", 60, True)
    measure("greedy", 60, False)
    models.free()
    for host in hosts:
        torch.cuda.cudart().cudaHostUnregister(host.data_ptr())
