"""Which KV heads of a model look far, found by what they do with a text that repeats itself.

RazorAttention (Tang et al., 2024, arXiv:2407.15891): over random tokens read several times, an echo head looks at
the same token the time before, an induction head at the one that came after it. Random tokens mean nothing, so a head
that finds them there copies by place and content, and is one that finds things in documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from longleaf.engine.attention_scores import lent
from longleaf.engine.errors import EngineFailed

_IMPLEMENTATION = "longleaf_heads"


@dataclass(slots=True)
class _Seen:
    """What each query head pays to where a copying head looks, by layer: float32 `[heads]`."""

    period: int
    shares: dict[int, torch.Tensor] = field(default_factory=dict)


@torch.inference_mode()
def score_heads(model: Any, *, period: int = 512, times: int = 3, seed: int = 0) -> dict[tuple[int, int], float]:
    """For each (layer, KV head), the attention that its best query head pays to the places that repetition points at.

    Between 0 and 1. `period * times` must fit the model's window. The caller holds the model's lock. Layers with a
    sliding window have none: they look no further anyway.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(_IMPLEMENTATION, _observe)
    config = model.config.get_text_config(decoder=True)
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(0, int(config.vocab_size), (1, period), generator=generator)
    seen = _Seen(period)
    with lent(config, _attn_implementation=_IMPLEMENTATION):
        model.get_decoder()(input_ids=once.repeat(1, times).to(model.device), use_cache=False, heads_seen=seen)
    kv_heads = int(config.num_key_value_heads)
    return {
        (layer, head): float(share)
        for layer, shares in sorted(seen.shares.items())
        for head, share in enumerate(shares.view(kv_heads, -1).amax(dim=1))
    }


def far_heads(scores: Mapping[tuple[int, int], float], share: float = 0.5) -> frozenset[tuple[int, int]]:
    """The best `share` of the heads (DuoAttention: half, with groups of query heads)."""
    ranked = sorted(scores, key=lambda head: (-scores[head], head))
    return frozenset(ranked[: round(share * len(ranked))])


def save_scores(path: Path, scores: Mapping[tuple[int, int], float], model: str) -> None:
    """Keep a model's scores; `model` is its fingerprint."""
    rows = [[layer, head, score] for (layer, head), score in scores.items()]
    path.write_text(json.dumps({"model": model, "scores": rows}), encoding="utf-8")


def load_scores(path: Path, model: str) -> dict[tuple[int, int], float]:
    """Scores kept for this model. Raises `EngineFailed` where they are another's or cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        owner, rows = kept["model"], {(int(layer), int(head)): float(score) for layer, head, score in kept["scores"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineFailed(
            f"the head scores in {path} cannot be read ({error}); delete the file to score anew"
        ) from error
    if owner != model:
        raise EngineFailed(f"the head scores in {path} are those of model {owner}, not {model}; delete the file")
    return rows


def _observe(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    heads_seen: _Seen | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention, with a note of what the last period's queries pay to echo and induction places."""
    group = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
    tokens = key.shape[2]
    ago = torch.arange(tokens, device=key.device)[:, None] - torch.arange(tokens, device=key.device)
    allowed = ago >= 0 if sliding_window is None else (ago >= 0) & (ago < sliding_window)
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=scale)
    if heads_seen is not None and sliding_window is None:
        last = slice(tokens - heads_seen.period, tokens)
        logits = query[0, :, last].float() @ key[0].float().mT * scale
        weights = logits.masked_fill(~allowed[last], float("-inf")).softmax(dim=-1)
        back = ago[last] % heads_seen.period
        copied = ((back == 0) | (back == heads_seen.period - 1)) & (ago[last] >= heads_seen.period - 1)
        heads_seen.shares[int(module.layer_idx)] = (weights * copied).sum(dim=-1).mean(dim=-1)
    return out.transpose(1, 2).contiguous(), None
