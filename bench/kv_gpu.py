"""Sparse attention on one GPU: kernels, a decode step, prefill, a million tokens, and answers that stay right.

Run `pip install --no-deps . && python bench/kv_gpu.py --out kv_gpu.json` in the root. Each section checks its results
against float32 before it times anything, and goes on when another fails. The models of `step`, `prefill` and `million`
have the shape of Llama-3-8B and random weights, and their keys and values are random: they measure speed alone.
`quality` needs a trained model (`--model FOLDER`, SmolLM2).
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.attention.graph import DecodeStep
from longleaf.engine.attention.triton.append import summarize
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.host import HostLayer, quantise
from longleaf.engine.attention.triton.layers import PagedLayer
from longleaf.engine.attention.triton.prefill import estimate, prefill, run_means
from longleaf.engine.attention.triton.retrieve import Retriever, score
from longleaf.engine.attention.triton.select import select

HEADS, KV_HEADS, HEAD, LAYERS = 32, 8, 128, 32
GROUP, SCALE = HEADS // KV_HEADS, HEAD**-0.5
BUDGET = 2048
BF16 = torch.bfloat16
CARD = torch.device("cuda")
K = 1024
SECTIONS = ("kernels", "step", "prefill", "million", "quality")


@dataclass
class Report:
    """Rows of each table, written to disk as they come."""

    out: Path | None
    bandwidth: float = 0.0  # bytes a second of a copy, read and written
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def add(self, table: str, **row: Any) -> None:
        self.tables.setdefault(table, []).append(row)
        print(f"[{self.seconds():5.0f} s] {table}: " + ", ".join(f"{k} {_cell(v)}" for k, v in row.items()), flush=True)
        self.write()

    def note(self, **facts: Any) -> None:
        self.facts |= facts
        print(f"[{self.seconds():5.0f} s] {facts}", flush=True)
        self.write()

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def write(self) -> None:
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps({"facts": self.facts, "tables": self.tables}, indent=1, default=str))

    def markdown(self) -> str:
        parts = []
        for name, rows in self.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            parts.append(f"\n### {name}\n\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
            parts += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows]
        return "\n".join(parts)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 1e-2 else f"{value:.2f}"
    return str(value)


def error(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float((found.double() - reference.double()).norm() / reference.double().norm())


def demand(what: str, value: float, most: float = 1e-2) -> float:
    """Raises where an error is too large; NaN is."""
    if not value <= most:
        raise AssertionError(f"{what}: relative error {value:.3e} is above {most}")
    return value


def poison() -> None:
    """Leaves NaN in the memory that results are about to get, so that a number nobody wrote shows."""
    stale = [torch.full((size,), math.nan, device=CARD) for size in (1 << 10, 1 << 14, 1 << 17, 1 << 21, 1 << 24) * 4]
    del stale


def release() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def graphed(function: Callable[[], Any]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def microseconds(function: Callable[[], Any], *, graph: bool = True, each: int = 1) -> float:
    """Median time with the L2 cache emptied before each run, of a graph's replay unless told otherwise."""
    run = graphed(function) if graph else function
    return float(triton.testing.do_bench(run, warmup=10, rep=60, return_mode="median")) * 1e3 / each


def copy_bandwidth() -> float:
    source = torch.randn(1 << 30, device=CARD, dtype=BF16)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (microseconds(lambda: target.copy_(source), graph=False) * 1e-6)


# Decode attention of one layer


@dataclass
class Pool:
    paged: Paged
    summary: torch.Tensor


def pools(rows: int, tokens: int, page: int, layers: int) -> list[Pool]:
    """Random pages of some layers; a row's pages lie in any order, its last page is partly filled."""
    logical = tokens // page
    found = []
    for _ in range(layers):
        keys = torch.randn(rows * logical + 1, KV_HEADS, page, HEAD, device=CARD, dtype=BF16)
        values = torch.randn_like(keys)
        table = (torch.randperm(rows * logical, device=CARD).int() + 1).view(rows, logical)
        lengths = torch.full((rows,), tokens - 5, device=CARD, dtype=torch.int32)
        summary = torch.full((len(keys), KV_HEADS, 2 * HEAD), math.nan, device=CARD, dtype=BF16)
        filled = torch.full((len(keys),), page, device=CARD, dtype=torch.int32)
        filled[table[:, -1].long()] = page - 5
        summarize(summary, keys, torch.arange(len(keys), device=CARD), filled)
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


def check_decode(pool: Pool, rows: int, retriever: Retriever, decoder: Decoder) -> dict[str, float]:
    paged, page = pool.paged, pool.paged.page
    query = torch.randn(rows, HEADS, HEAD, device=CARD, dtype=BF16)
    new = tuple(torch.randn(rows, KV_HEADS, 1, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    poison()
    plan = retriever(query, pool.summary, paged, SCALE, new=(new[0], new[1]))
    newest = paged.table.gather(1, ((paged.lengths - 1) // page).long()[:, None])[:, 0].long()
    offset = ((paged.lengths - 1) % page).long()
    assert torch.equal(paged.keys[newest, :, offset], new[0][:, :, 0]), "the new token's key is not in its page"
    assert torch.equal(paged.values[newest, :, offset], new[1][:, :, 0]), "the new token's value is not in its page"
    summary = pool.summary[paged.table.long()].float()
    q = query.float().view(rows, 1, KV_HEADS, GROUP, HEAD)
    low, high = summary[..., None, :HEAD], summary[..., None, HEAD:]
    expected = (q.clamp_max(0) * low + q.clamp_min(0) * high).sum(-1).amax(-1).transpose(1, 2) * SCALE
    scores = score(query, pool.summary, paged, SCALE)
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
            try:
                _decode_row(report, rows, tokens, page, dense)
            except Exception:  # noqa: BLE001 - the other shapes go on
                traceback.print_exc()
            release()
    _variants(report)


def _decode_row(report: Report, rows: int, tokens: int, page: int, dense: dict[str, float]) -> None:
    layers = 2 if rows * tokens > 256 * K else 4
    found = pools(rows, tokens, page, layers)
    retriever, decoder = Retriever(BUDGET // page), Decoder()
    errors = check_decode(found[0], rows, retriever, decoder)
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
    read = kv * (BUDGET + tokens // page)
    report.add(
        "decode attention, one layer, 2,048 tokens read",
        shape=f"{rows} x {tokens // K}K",
        page=page,
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
    pool = pools(1, 128 * K, 64, 1)[0]
    query = torch.randn(1, HEADS, HEAD, device=CARD, dtype=BF16)
    fused, apart = Retriever(BUDGET // 64), Retriever(BUDGET // 64, fused=False)
    plan = fused(query, pool.summary, pool.paged, SCALE)
    for name, retriever in (("choose in one launch", fused), ("choose in two", apart)):
        report.add(
            "variants, 1 x 128K, page 64",
            variant=name,
            us=microseconds(lambda r=retriever: r(query, pool.summary, pool.paged, SCALE)),
        )
    for splits, tile, warps in ((None, None, 4), (16, 64, 4), (32, 64, 8), (16, 128, 8), (64, 32, 4), (32, 64, 2)):
        try:
            decoder = Decoder(splits=splits, tile=tile, warps=warps)
            demand("variant", error(decoder(query, pool.paged, plan, SCALE), reference_decode(query, pool.paged, plan)))
            us = microseconds(lambda d=decoder: d(query, pool.paged, plan, SCALE))
            report.add(
                "variants, 1 x 128K, page 64", variant=f"attend: {splits} splits, tile {tile}, {warps} warps", us=us
            )
        except Exception as failure:  # noqa: BLE001
            print(f"variant {splits} {tile} {warps}: {str(failure)[:200]}", flush=True)


# The whole decode step of a model


def llama_8b() -> Any:
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        num_hidden_layers=LAYERS,
        vocab_size=128256,
        max_position_embeddings=1 << 20,
        head_dim=HEAD,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device=CARD).to(BF16)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.01)
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.weight.data.fill_(1)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(CARD)
    return model.eval().requires_grad_(False)


class Nothing:
    """A step's layer that attends to nothing: what the rest of the model costs."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        return torch.full_like(query, 0.01)


class Models:
    """The 8B model and its compiled step, made once for all sections that use them."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._model: Any = None
        self._step: DecodeStep | None = None

    def model(self) -> Any:
        if self._model is None:
            self._model = llama_8b()
        return self._model

    def step(self) -> DecodeStep:
        if self._step is None:
            self._step = DecodeStep(self.model(), 1, compiled=self._mode)
        return self._step

    def free(self) -> None:
        """Lets go of the pages of the last step's layers."""
        if self._step is not None:
            self._step.use([Nothing()] * LAYERS, 1)

    def weight_bytes(self) -> int:
        embedding = self.model().model.embed_tokens.weight
        return sum(p.nbytes for p in self.model().parameters()) - int(embedding.nbytes)


def step_ms(step: DecodeStep, steps: int = 40) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(3):
        begin.record()
        step.run(steps)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / steps)
    return statistics.median(times)


def decode_step(report: Report, options: argparse.Namespace, models: Models) -> None:
    step = models.step()
    begun = time.perf_counter()
    step.use([Nothing()] * LAYERS, 1 << 20)
    step.begin([5], [1000])
    step.capture()
    floor = step_ms(step)
    report.note(compile_and_capture_s=time.perf_counter() - begun, step_mode=options.mode)
    report.add("decode step, 8B shape, batch 1", tokens="any", attention="none", ms=floor)
    page, spare = 64, 256  # of a row's room, what is left for new tokens
    physical = 256 * K // page + 1
    decoder, retriever = Decoder(), Retriever(BUDGET // page)
    table = (torch.randperm(physical - 1, device=CARD).int() + 1)[None]
    layers: list[dict[str, PagedLayer]] = []
    everything = torch.arange(physical, device=CARD)
    filled = torch.full((physical,), page, device=CARD, dtype=torch.int32)
    for _ in range(LAYERS):
        keys = torch.randn(physical, KV_HEADS, page, HEAD, device=CARD, dtype=BF16)
        values = torch.randn_like(keys)
        both = {
            "sparse": PagedLayer(keys, values, table, retriever, decoder),
            "dense, ours": PagedLayer(keys, values, table, None, decoder),
        }
        both["dense, ours"].summary = both["sparse"].summary
        summarize(both["sparse"].summary, keys, everything, filled)
        layers.append(both)
    for tokens in (32 * K, 128 * K, 256 * K):
        for kind in ("sparse", "dense, ours"):
            try:
                used = []
                for both in layers:
                    layer = both[kind]
                    layer.table = table[:, : tokens // page].contiguous()
                    used.append(layer)
                step.use(used, tokens)
                step.begin([5], [tokens - spare])
                launched = step.run(4).tolist()
                step.begin([5], [tokens - spare])
                step.capture()
                replayed = step.run(4).tolist()
                step.begin([5], [tokens - spare])
                ms = step_ms(step)
                read = BUDGET + tokens // page if kind == "sparse" else tokens
                moved = models.weight_bytes() + read * KV_HEADS * HEAD * 4 * LAYERS
                report.add(
                    "decode step, 8B shape, batch 1",
                    tokens=f"{tokens // K}K",
                    attention=kind,
                    ms=ms,
                    tb_s=moved / ms / 1e9,
                    roofline=f"{moved / report.bandwidth / ms * 1e3:.0%}",
                    us_a_layer=(ms - floor) / LAYERS * 1e3,
                    graph_equals_launched=launched == replayed,
                )
            except Exception:  # noqa: BLE001
                traceback.print_exc()


# Prefill


@dataclass
class Prompt:
    """Keys and values of a prompt as it is computed in chunks, and how its attention is done."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    means: list[torch.Tensor]
    attend: Callable[[Prompt, int, torch.Tensor, int], torch.Tensor]
    start: int = 0
    pairs: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        end = self.start + key.shape[2]
        self.keys[layer][:, :, self.start : end] = key
        self.values[layer][:, :, self.start : end] = value
        self.means[layer][:, :, self.start // RUN : -(-end // RUN)] = run_means(key, RUN)
        return self.attend(self, layer, query, end)


RUN = 16
_prompts: dict[str, Prompt] = {}


def _prompt_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any
) -> Any:
    return _prompts["now"](module.layer_idx, query, key, value).transpose(1, 2), None


def new_prompt(config: Any, tokens: int, attend: Any) -> Prompt:
    heads, size = config.num_key_value_heads, config.head_dim

    def buffers(length: int) -> list[torch.Tensor]:
        shape = (1, heads, length, size)
        return [torch.zeros(shape, device=CARD, dtype=BF16) for _ in range(config.num_hidden_layers)]

    return Prompt(buffers(tokens), buffers(tokens), buffers(-(-tokens // RUN)), attend)


@torch.no_grad()
def compute(model: Any, prompt: Prompt, ids: torch.Tensor, chunk: int) -> torch.Tensor:
    """Runs the model over `ids`, chunk by chunk; the last token's logits."""
    AttentionInterface.register("kv_gpu_prompt", _prompt_attention)
    before, model.config._attn_implementation = model.config._attn_implementation, "kv_gpu_prompt"
    _prompts["now"] = prompt
    prompt.pairs.clear()
    try:
        for start in range(0, ids.shape[1], chunk):
            prompt.start = start
            part = ids[:, start : start + chunk]
            positions = torch.arange(start, start + part.shape[1], device=CARD)[None]
            out = model(input_ids=part, position_ids=positions, use_cache=False, logits_to_keep=1)
        logits: torch.Tensor = out.logits
        return logits
    finally:
        model.config._attn_implementation = before


def sparse_prompt(budget: int, size: int) -> Callable[[Prompt, int, torch.Tensor, int], torch.Tensor]:
    def attend(prompt: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        lists = estimate(query, prompt.means[layer], end, budget, size=size, run=RUN)
        if layer == 0:
            prompt.pairs.append(lists.counts.sum() * size * size / query.shape[1])
        keys, values = prompt.keys[layer][:, :, :end], prompt.values[layer][:, :, :end]
        return prefill(query, keys, values, lists, query.shape[-1] ** -0.5)

    return attend


def flash(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention(query, keys, values, 0.0, True, False, scale=SCALE)[0]


def cudnn(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """cuDNN's causal rule is for equal lengths: what came before, without a mask, and the chunk itself, joined."""
    new, past = query.shape[2], keys.shape[2] - query.shape[2]
    call = torch.ops.aten._scaled_dot_product_cudnn_attention
    own, own_weight = call(query, keys[:, :, past:], values[:, :, past:], None, True, 0.0, True, False, scale=SCALE)[:2]
    if not past:
        return own
    old, old_weight = call(query, keys[:, :, :past], values[:, :, :past], None, True, 0.0, False, False, scale=SCALE)[
        :2
    ]
    shape = (*query.shape[:2], new, 1)
    share = torch.sigmoid(own_weight.reshape(shape) - old_weight.reshape(shape)).to(own.dtype)
    return torch.lerp(old, own, share)


def expanded(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    repeated = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (keys, values))
    return cudnn(query, *repeated)


DENSE: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "flash": flash,
    "cudnn": cudnn,
    "cudnn, heads repeated": expanded,
    "ours": lambda q, k, v: prefill(q, k, v, None, q.shape[-1] ** -0.5),
}


def reference_prefill(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    new, length = query.shape[2], keys.shape[2]
    keys, values = (part.repeat_interleave(query.shape[1] // part.shape[1], 1).float() for part in (keys, values))
    scores = query.float() @ keys.mT * query.shape[-1] ** -0.5
    late = torch.arange(length, device=CARD) > torch.arange(length - new, length, device=CARD)[:, None]
    return scores.masked_fill(late, -math.inf).softmax(-1) @ values


def check_prefill() -> list[str]:
    """The dense ways that are right; our kernel is checked over lists too."""
    right = []
    query = torch.randn(1, HEADS, 512, HEAD, device=CARD, dtype=BF16)
    keys, values = (torch.randn(1, KV_HEADS, 2048, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    expected = reference_prefill(query, keys, values)
    for name, function in DENSE.items():
        try:
            poison()
            demand(f"dense prefill by {name}", error(function(query, keys, values), expected))
            right.append(name)
        except Exception as failure:  # noqa: BLE001 - what is wrong or refuses is not a baseline
            print(f"dense prefill by {name} is left out: {str(failure)[:300]}", flush=True)
    if "ours" not in right:
        raise AssertionError("our dense prefill is wrong")
    for size in (64, 128):
        everything = estimate(query, run_means(keys, RUN), 2048, 2048 // size, size=size, run=RUN)
        poison()
        demand(f"full lists of {size}", error(prefill(query, keys, values, everything, SCALE), expected))
        few = estimate(query, run_means(keys, RUN), 2048, 5, size=size, run=RUN)
        allowed = torch.zeros(1, HEADS, 512 // size, 2048 // size, device=CARD, dtype=torch.bool)
        live = torch.arange(few.blocks.shape[-1], device=CARD) < few.counts[..., None]
        allowed.scatter_(3, few.blocks.long().clamp_min(0), live)
        tokens = allowed.repeat_interleave(size, 2).repeat_interleave(size, 3)
        late = torch.arange(2048, device=CARD) > torch.arange(1536, 2048, device=CARD)[:, None]
        repeated = (part.repeat_interleave(GROUP, 1).float() for part in (keys, values))
        k, v = repeated
        wanted = (query.float() @ k.mT * SCALE).masked_fill(late | ~tokens, -math.inf).softmax(-1) @ v
        poison()
        demand(f"lists of {size}", error(prefill(query, keys, values, few, SCALE), wanted))
    return right


def _prefill_speed(report: Report, right: Iterable[str], chunk: int) -> str:
    """Attention of one chunk in one layer; the name of the fastest dense way."""
    length = 128 * K
    query = torch.randn(1, HEADS, chunk, HEAD, device=CARD, dtype=BF16)
    keys, values = (torch.randn(1, KV_HEADS, length, HEAD, device=CARD, dtype=BF16) for _ in range(2))
    pairs = chunk * (length - chunk / 2)
    times: dict[str, float] = {}

    def add(name: str, function: Callable[[], Any], density: float = 1.0) -> None:
        try:
            ms = microseconds(function, graph=False) / 1e3
        except Exception as failure:  # noqa: BLE001
            print(f"{name}: {str(failure)[:300]}", flush=True)
            return
        times[name] = ms
        rate = 4 * pairs * density * HEAD * HEADS / ms / 1e9
        report.add("prefill attention, one layer, the last 8K of 128K", way=name, density=density, ms=ms, tflop_s=rate)

    for name in right:
        add(name, lambda f=DENSE[name]: f(query, keys, values))
    means = run_means(keys, RUN)
    for budget in (64, 32):
        lists = estimate(query, means, length, budget, run=RUN)
        density = float(lists.counts.sum()) * 128 * 128 / HEADS / pairs
        add(f"sparse, {budget} blocks", lambda x=lists: prefill(query, keys, values, x, SCALE), density)
        for tile, warps, stages in (((128, 128), 8, 2), ((128, 64), 8, 2)):
            add(
                f"sparse, {budget} blocks, tile {tile}, {stages} stages",
                lambda x=lists, t=tile, w=warps, s=stages: prefill(
                    query, keys, values, x, SCALE, tile=t, warps=w, stages=s
                ),
                density,
            )
        add(f"estimate for {budget} blocks", lambda b=budget: estimate(query, means, length, b, run=RUN), 0.0)
    return min((name for name in right if name in times), key=lambda name: times[name])


def prompts(report: Report, options: argparse.Namespace, models: Models) -> None:
    chunk, tokens = 8192, options.prefill_tokens
    right = check_prefill()
    best = _prefill_speed(report, right, chunk)
    release()
    model = models.model()
    ids = torch.randint(0, 128256, (1, tokens), device=CARD)
    prompt = new_prompt(model.config, tokens, None)

    def dense(held: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        return DENSE[best](query, held.keys[layer][:, :, :end], held.values[layer][:, :, :end])

    def nothing(held: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        return torch.full_like(query, 0.01)

    ways = {
        "none": nothing,
        "sparse, 32 blocks": sparse_prompt(32, 128),
        "sparse, 64 blocks": sparse_prompt(64, 128),
        f"dense by {best}": dense,
    }
    seconds: dict[str, float] = {}
    full = tokens * (tokens + 1) / 2
    for name, attend in ways.items():
        try:
            prompt.attend = attend
            compute(model, prompt, ids[:, : 2 * chunk], chunk)
            # Every length once in one layer: libraries plan anew for each.
            for start in range(0, tokens, chunk):
                query = torch.randn(1, HEADS, chunk, HEAD, device=CARD, dtype=BF16)
                attend(prompt, 1, query, start + chunk)
            torch.cuda.synchronize()
            begun = time.perf_counter()
            logits = compute(model, prompt, ids, chunk)
            torch.cuda.synchronize()
            seconds[name] = time.perf_counter() - begun
            assert bool(logits.isfinite().all()), "logits are not finite"
            density = 0.0 if name == "none" else 1.0
            if prompt.pairs:
                density = float(sum(prompt.pairs)) / full
            report.add(
                f"prefill of {tokens // K}K tokens, 8B shape", attention=name, density=density, seconds=seconds[name]
            )
        except Exception:  # noqa: BLE001
            traceback.print_exc()
    base = seconds.get(f"dense by {best}")
    if base:
        report.note(prefill_speedup={n: round(base / s, 2) for n, s in seconds.items() if n.startswith("sparse")})


# A million tokens


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
    retriever, decoder = Retriever(8), Decoder()
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
    retriever, decoder = Retriever(BUDGET // page), Decoder()
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


# Answers


_FILLER = (
    "The road along the river was quiet that morning, and the market had not opened yet.",
    "Several boats lay at the quay, and a clerk counted the barrels as they were rolled ashore.",
    "In the afternoon the wind turned to the north and the fields lost their colour.",
    "A letter from the capital had arrived the week before, but nobody spoke of it.",
    "The mill stood where the two streams met, and its wheel could be heard from the square.",
)


def needle_prompt(tokenizer: Any, tokens: int, depth: float, draw: random.Random) -> tuple[list[int], str]:
    code = str(draw.randint(10000, 99999))
    name = draw.choice(("Marlow", "Verity", "Hensley", "Tamsin", "Corwin"))
    needle = tokenizer.encode(f" The secret code of {name} is {code}.", add_special_tokens=False)
    ask = tokenizer.encode(
        f"\n\nQuestion: What is the secret code of {name}?\nAnswer: The secret code of {name} is",
        add_special_tokens=False,
    )
    room = tokens - len(needle) - len(ask)
    hay: list[int] = []
    while len(hay) < room:
        hay += tokenizer.encode(" " + draw.choice(_FILLER), add_special_tokens=False)
    place = int(depth * room)
    return hay[:place] + needle + hay[place:room] + ask, code


def quality(report: Report, options: argparse.Namespace) -> None:
    if not options.model:
        print("quality is left out: it needs --model FOLDER", flush=True)
        return
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=BF16).to(CARD).eval()
    config = model.config
    if getattr(config, "head_dim", None) is None:
        config.head_dim = config.hidden_size // config.num_attention_heads
    page, decode_budget, blocks = 32, 512, 8
    step = DecodeStep(model, 1, compiled=None)

    def dense(held: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        return DENSE["ours"](query, held.keys[layer][:, :, :end], held.values[layer][:, :, :end])

    ways = {"dense": dense, "sparse": sparse_prompt(blocks, 128)}
    window = int(config.max_position_embeddings)
    right: dict[tuple[str, str], list[bool]] = {}
    densities: list[float] = []
    for tokens in (min(int(text), window - 100) for text in options.needle_tokens.split(",")):
        prompt = new_prompt(config, tokens + 64, None)
        found: dict[tuple[str, str], int] = {}
        for trial in range(options.trials):
            ids, code = needle_prompt(tokenizer, tokens, (trial + 0.5) / options.trials, random.Random(trial))
            for filled, attend in ways.items():
                prompt.attend = attend
                logits = compute(model, prompt, torch.tensor([ids], device=CARD), 2048)
                if prompt.pairs:
                    densities.append(float(sum(prompt.pairs)) / (len(ids) * (len(ids) + 1) / 2))
                for read in ("dense", "sparse"):
                    retriever = None if read == "dense" else Retriever(decode_budget // page)
                    layers = _paged_layers(prompt, len(ids), page, retriever)
                    step.use(layers, len(ids) + 64)
                    step.begin([int(logits[0, -1].argmax())], [len(ids)])
                    generated = [int(logits[0, -1].argmax()), *step.run(8)[0].tolist()]
                    ok = code in tokenizer.decode(generated)
                    found[filled, read] = found.get((filled, read), 0) + ok
                    right.setdefault((filled, read), []).append(ok)
        for (filled, read), count in found.items():
            report.add(
                "needles found, trained model",
                tokens=tokens,
                prefill=filled,
                decode=read,
                found=count,
                of=options.trials,
            )
        del prompt
        release()
    for (filled, read), answers in right.items():
        report.add("needles found, all lengths", prefill=filled, decode=read, share=sum(answers) / len(answers))
    report.note(prefill_density=statistics.mean(densities), model=str(options.model), decode_budget=decode_budget)


def _paged_layers(prompt: Prompt, length: int, page: int, retriever: Retriever | None) -> list[PagedLayer]:
    logical = -(-(length + 64) // page)
    table = (torch.randperm(logical, device=CARD).int() + 1)[None]
    lengths = torch.tensor([length], device=CARD, dtype=torch.int32)
    decoder = Decoder()
    layers = []
    for keys, values in zip(prompt.keys, prompt.values, strict=True):
        shape = (logical + 1, keys.shape[1], page, keys.shape[3])
        layer = PagedLayer(
            torch.zeros(shape, device=CARD, dtype=BF16),
            torch.zeros(shape, device=CARD, dtype=BF16),
            table,
            retriever,
            decoder,
        )
        layer.fill(keys[:, :, :length].contiguous(), values[:, :, :length].contiguous(), lengths)
        layers.append(layer)
    return layers


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, help="JSON of everything measured")
    parser.add_argument("--model", type=Path, help="folder of a trained model, for the section quality")
    parser.add_argument("--mode", default="default", help="mode of torch.compile for the decode step")
    parser.add_argument("--flex", action="store_true", help="FlexAttention among the dense baselines (compiles long)")
    parser.add_argument("--prefill-tokens", type=int, default=128 * K)
    parser.add_argument("--million-tokens", type=int, default=1_000_000)
    parser.add_argument("--host-seconds", type=float, default=90, help="stop pinning host memory after this long")
    parser.add_argument("--trials", type=int, default=10, help="needles for each length")
    parser.add_argument("--needle-tokens", default="2000,4000,8000", help="lengths of the needles' texts")
    parser.add_argument("--seconds", type=float, default=340, help="begin no section after this long")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    if not torch.cuda.is_available():
        print("this bench needs a GPU that torch can use", file=sys.stderr)
        return 2
    report = Report(options.out)
    models = Models(options.mode)
    report.bandwidth = copy_bandwidth()
    report.note(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        triton=triton.__version__,
        copy_tb_s=report.bandwidth / 1e12,
    )
    release()
    run: dict[str, Callable[[], None]] = {
        "kernels": lambda: kernels(report, options),
        "step": lambda: decode_step(report, options, models),
        "prefill": lambda: prompts(report, options, models),
        "million": lambda: million(report, options, models),
        "quality": lambda: quality(report, options),
    }
    failed = []
    for name in options.sections.split(","):
        if report.seconds() > options.seconds:
            failed.append(f"{name} (no time left)")
            continue
        begun = time.perf_counter()
        try:
            run[name]()
        except Exception:  # noqa: BLE001 - the other sections go on
            traceback.print_exc()
            failed.append(name)
        report.note(**{f"{name}_s": round(time.perf_counter() - begun, 1)})
        models.free()
        release()
    report.note(failed=failed, seconds=round(report.seconds(), 1))
    print(report.markdown(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
