"""Prompts computed in chunks on a GPU, over chosen blocks and densely: one layer, and the model of 8B shape."""

from __future__ import annotations

import argparse
import math
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from gpu_report import (
    BF16,
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
from gpu_step import Models
from transformers import AttentionInterface

from longleaf.engine.attention.triton.prefill import estimate, prefill, prefill_chosen, run_means


@dataclass
class Prompt:
    """Keys and values of a prompt as it is computed in chunks, and how its attention is done."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    means: list[torch.Tensor]
    attend: Callable[[Prompt, int, torch.Tensor, int], torch.Tensor]
    start: int = 0
    total: int = 0
    pairs: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        end = self.start + key.shape[2]
        self.keys[layer][:, :, self.start : end] = key
        self.values[layer][:, :, self.start : end] = value
        self.means[layer][:, :, self.start // RUN : -(-end // RUN)] = run_means(key, RUN)
        return self.attend(self, layer, query, end)


RUN = 16
LAST = 128  # of a prompt's tokens, those that read everything
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
    prompt.total = ids.shape[1]
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


def sparse_prompt(budget: int, size: int, last: int = 0) -> Callable[[Prompt, int, torch.Tensor, int], torch.Tensor]:
    """Blocks by `estimate`; the prompt's `last` tokens read everything."""

    def attend(prompt: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        keys, values = prompt.keys[layer][:, :, :end], prompt.values[layer][:, :, :end]
        exact = min(query.shape[2], max(0, end - prompt.total + last))
        scale = query.shape[-1] ** -0.5
        out, lists = prefill_chosen(
            query, keys, values, prompt.means[layer], scale, budget=budget, exact=exact, size=size, run=RUN
        )
        if layer == 0:
            prompt.pairs.append(torch.tensor(float(exact * end), device=CARD))
            if lists is not None:
                prompt.pairs.append(lists.counts.sum() * size * size / query.shape[1])
        return out

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
        "sparse, 64 blocks, exact end": sparse_prompt(64, 128, LAST),
        f"dense by {best}": dense,
    }
    seconds: dict[str, float] = {}
    full = tokens * (tokens + 1) / 2
    for name, attend in ways.items():
        try:
            prompt.attend = attend
            compute(model, prompt, ids[:, : 2 * chunk], chunk)
            prompt.total = tokens
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
