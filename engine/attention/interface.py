"""Attention through pages for transformers' models, by its `AttentionInterface`: no model code is rewritten.

A model calls `attend` for each layer, and what to do with it stands in the `Pass` that travels with the call. Layers
with a sliding window read that window, as the model means them to, whatever the policy.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from longleaf.engine.attention.attend import every_page, gather, two_parts
from longleaf.engine.attention.bank import SummaryBank
from longleaf.engine.attention.cache import everything
from longleaf.engine.attention.contract import Attend, Chunk, Paged, Plan, Policy, Positions, ReadsPages, Step
from longleaf.engine.attention.positions.true import TrueDistance
from longleaf.engine.attention.reads import Recorder
from longleaf.engine.attention.rotation import placed, rotate
from longleaf.engine.attention_scores import lent
from longleaf.engine.pages.store import PageStore

IMPLEMENTATION = "longleaf_paged"
"""The name under which transformers knows `attend`."""

# Whose attention is query, key, value, rotation and softmax, with nothing of its own between.
_KNOWN = {"llama", "qwen2", "qwen3", "mistral", "gemma3_text"}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pass:
    """One forward pass, as its layers see it. Row i of the batch is sequence i, whose length was `before[i]`.

    `positions` say that keys are stored without theirs, and where they are seen; `frequencies` belong to them. `states`
    are the policy's, by layer. `table` is that of `PageStore.resident`, the others what `PageStore.blocks` says, all
    asked once for all layers.
    """

    store: PageStore
    bank: SummaryBank | None
    attend: Attend
    policy: Policy
    sequences: tuple[int, ...]
    before: tuple[int, ...]
    positions: Positions | None = None
    frequencies: dict[str, torch.Tensor] = field(default_factory=dict)
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    recorder: Recorder | None = None
    total: int | None = None
    blocks: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    table: torch.Tensor | None = None
    described: torch.Tensor | None = None


def pages_of(model: Any) -> bool:
    """Whether a model's attention can go through pages. Says once of each kind of model that it cannot."""
    config = model.config.get_text_config(decoder=True)
    known = known_to_pages(config)
    if not known:
        _say_once(type(model).__name__, config.model_type)
    return known


def known_to_pages(config: Any) -> bool:
    """Whether the attention of models with this configuration (the decoder's) can go through pages."""
    return config.model_type in _KNOWN and getattr(config, "attn_logit_softcapping", None) is None


@functools.cache
def _say_once(model: str, kind: str) -> None:
    _log.warning(
        "attention of %s (%s) does not go through pages: it is dense, and what policies choose is not used", model, kind
    )


@contextmanager
def through_pages(model: Any) -> Iterator[None]:
    """A model whose attention is `attend` for a while. Whoever calls holds the model's lock."""
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, attend)
    with lent(model.config.get_text_config(decoder=True), _attn_implementation=IMPLEMENTATION):
        yield


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    paged: Pass | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, whose `key` and `value` are the new tokens' alone and in the store already.

    `query` is `[rows, heads, new, head_size]`; returns `[rows, new, heads, head_size]`.
    """
    if paged is None:
        raise ValueError(
            f"{IMPLEMENTATION} attends only within a pass of its own; see longleaf.engine.attention.runner"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)
    kind = getattr(module, "layer_type", None)
    _describe(paged, layer, query.shape[2])
    frequencies = paged.frequencies.get(kind or "", paged.frequencies.get(""))
    if sliding_window is not None:
        out = _sliding(query, key, value, paged, layer, scale, sliding_window, frequencies)
    elif query.shape[2] == 1:
        out = _decode(query[:, :, 0], paged, layer, scale, frequencies)[:, :, None]
    else:
        out = _prefill(query, key, value, paged, layer, scale, frequencies)
    return out.transpose(1, 2).contiguous(), None


def _describe(paged: Pass, layer: int, new: int) -> None:
    """What is the same in all layers is asked of the store once; pages that are full now are summarised."""
    if paged.blocks is None or paged.lengths is None:
        paged.blocks, paged.lengths = paged.store.blocks(paged.sequences, layer)
        paged.table = paged.store.resident(paged.sequences, layer)
        full = (
            torch.arange(paged.blocks.shape[1], device=paged.blocks.device)
            < paged.lengths[:, None] // paged.store.shape.page
        )
        paged.described = paged.blocks.masked_fill(~full, 0)
    if paged.bank is None:
        return
    for row, (sequence, before) in enumerate(zip(paged.sequences, paged.before, strict=True)):
        paged.bank.filled(sequence, layer, before, before + new, paged.blocks[row])


def _step(paged: Pass, layer: int, scale: float, new: int) -> Step:
    assert paged.blocks is not None
    assert paged.lengths is not None
    assert paged.described is not None
    keys, values = paged.store.pool(layer)
    pages = Paged(keys, values, paged.blocks, paged.lengths)
    if getattr(paged.policy, "reads_keys", False):
        pages = _all_pages(paged, layer)
    summary = keys.new_empty(0) if paged.bank is None else paged.bank.layer(layer)
    held = tuple(before + new for before in paged.before)
    state = paged.states.setdefault(layer, {})
    return Step(layer, paged.store.shape.layers, pages, summary, scale, paged.described, held, state)


def _decode(
    query: torch.Tensor, paged: Pass, layer: int, scale: float, frequencies: torch.Tensor | None
) -> torch.Tensor:
    step = _step(paged, layer, scale, 1)
    if paged.positions is None or frequencies is None:
        plan = paged.policy.decode(query, step)
    else:
        far = torch.full_like(frequencies, float(paged.positions.far)) * frequencies
        plan = paged.policy.decode(rotate(query, far), step)
    if plan is not None and paged.recorder is not None:
        paged.recorder.note(layer, plan)
    if paged.positions is not None and frequencies is not None:
        return _placed(
            query, every_page(step.paged) if plan is None else plan, step, paged, paged.positions, frequencies
        )
    if plan is None or paged.table is not None:
        return paged.attend.decode(query, _all_pages(paged, layer), plan, scale)
    out_before = paged.store.stats().evictions
    pages = _brought(plan, step, paged, range(len(query)))
    if len(query) == 1 or paged.store.stats().evictions == out_before:
        return paged.attend.decode(query, pages, plan, scale)
    # What one row brought in may have put out what another had.
    rows = []
    for row in range(len(query)):
        own = _row(plan, row)
        rows.append(paged.attend.decode(query[row, None], _brought(own, step, paged, range(row, row + 1)), own, scale))
    return torch.cat(rows)


def _all_pages(paged: Pass, layer: int) -> Paged:
    """All pages of a layer, on the device."""
    if paged.table is None or paged.lengths is None:
        return paged.store.paged(paged.sequences, layer)
    keys, values = paged.store.pool(layer)
    return Paged(keys, values, paged.table, paged.lengths)


def _brought(plan: Plan, step: Step, paged: Pass, rows: range) -> Paged:
    """The pages of a plan for `rows`, brought to the device; others stand as 0 in the table."""
    assert paged.lengths is not None
    logical = step.blocks.shape[1]
    table = step.blocks.new_zeros(len(rows), logical + 1)
    for index, row in enumerate(rows):
        wanted = plan.pages[index].reshape(-1)
        physical = paged.store.ensure(paged.sequences[row], step.layer, wanted)
        table[index].scatter_(0, torch.where(wanted < 0, logical, wanted).long(), physical)
    keys, values = paged.store.pool(step.layer)
    return Paged(keys, values, table[:, :logical], paged.lengths[list(rows)])


def _row(plan: Plan, row: int) -> Plan:
    scores = None if plan.scores is None else plan.scores[row, None]
    return Plan(plan.pages[row, None], plan.counts[row, None], scores)


def _placed(
    query: torch.Tensor, plan: Plan, step: Step, paged: Pass, positions: Positions, frequencies: torch.Tensor
) -> torch.Tensor:
    """Decoding over keys without positions: each is turned to where its block of queries sees it."""
    outs = []
    page = step.paged.page
    for row, held in enumerate(step.held):
        own = _row(plan, row)
        keys, values, real = gather(_brought(own, step, paged, range(row, row + 1)), own)
        start = (held - 1) // _block(paged) * _block(paged)
        tokens = (own.pages.clamp_min(0)[..., None] * page + torch.arange(page, device=keys.device)).flatten(2)
        where = torch.tensor([start], device=keys.device)
        turned = placed(keys, tokens[..., : keys.shape[2]], where, positions, frequencies)
        asked = rotate(query[row, None], (held - 1 - start) * frequencies)
        q = asked.unflatten(1, (keys.shape[1], -1))
        outs.append(scaled_dot_product_attention(q, turned, values, attn_mask=real, scale=step.scale).flatten(1, 2))
    return torch.cat(outs)


def _block(paged: Pass) -> int:
    """Tokens of a block of queries, which see far tokens at one distance."""
    return paged.policy.block if isinstance(paged.policy, ReadsPages) else paged.store.shape.page


def _prefill(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    paged: Pass,
    layer: int,
    scale: float,
    frequencies: torch.Tensor | None,
) -> torch.Tensor:
    """A chunk of one sequence's prompt."""
    if len(paged.sequences) != 1:
        raise ValueError(f"prompts are read one at a time, not {len(paged.sequences)} at once")
    sequence, start = paged.sequences[0], paged.before[0]
    layers = paged.store.shape.layers
    chunk = Chunk(layer, layers, start, scale, paged.total)
    if isinstance(paged.policy, ReadsPages) or paged.positions is not None:
        return _by_pages(query, key, value, paged, chunk, frequencies)
    keys, values = (key, value) if start == 0 else _batched(everything(paged.store, sequence, layer))
    mask = paged.policy.prefill(query, keys, chunk)
    return paged.attend.prefill(query, keys, values, mask, scale)


def _batched(layer: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return layer[0][None], layer[1][None]


def _by_pages(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    paged: Pass,
    chunk: Chunk,
    frequencies: torch.Tensor | None,
) -> torch.Tensor:
    """A chunk of a prompt block by block, each gathering the pages it reads."""
    sequence, start, new = paged.sequences[0], chunk.start, query.shape[2]
    size, page = _block(paged), paged.store.shape.page
    step = _step(paged, chunk.layer, chunk.scale, new)
    plan = None
    if isinstance(paged.policy, ReadsPages):
        asked = query
        if paged.positions is not None and frequencies is not None:
            asked = rotate(query, frequencies * float(paged.positions.far))
        plan = paged.policy.prefill_pages(asked, chunk, step)
    out = torch.empty_like(query)
    for index, number in enumerate(range(start // size, (start + new - 1) // size + 1)):
        low, high = max(start, number * size), min(start + new, (number + 1) * size)
        pages = torch.arange(-(-low // page), device=query.device)[None]
        if plan is not None:
            pages = _with_own(plan, index, number * size // page, pages)
        tokens = (pages[..., None] * page + torch.arange(page, device=query.device)).flatten(1)
        past_keys, past_values = paged.store.gather(sequence, chunk.layer, pages)
        # What is not before the chunk's own tokens is at the end of every list.
        seen = tokens.shape[1] - (-low % page if tokens.shape[1] else 0)
        past_keys, past_values, tokens = past_keys[:, :seen], past_values[:, :seen], tokens[:, :seen]
        now = slice(low - start, high - start)
        asked, own = query[:, :, now], key[:, :, now]
        if paged.positions is not None and frequencies is not None:
            at = torch.tensor([number * size], device=query.device)
            past_keys = placed(past_keys, tokens, at, paged.positions, frequencies)
            angles = torch.arange(low - number * size, high - number * size, device=query.device)[:, None] * frequencies
            asked, own = rotate(asked, angles), rotate(own, angles)
        out[:, :, now] = two_parts(asked, past_keys[None], past_values[None], own, value[:, :, now], chunk.scale)
    return out


def _with_own(plan: Plan, index: int, first: int, before: torch.Tensor) -> torch.Tensor:
    """The lists of one block of queries, and those pages of `before` `[1, pages]` that are its own, from `first` on."""
    count = int(plan.counts[index, 0])
    chosen = plan.pages[index, :, :count].long()
    return torch.cat([chosen, before[:, first:].expand(len(chosen), -1)], dim=1)


def _sliding(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    paged: Pass,
    layer: int,
    scale: float,
    window: int,
    frequencies: torch.Tensor | None,
) -> torch.Tensor:
    """A layer that sees the last `window` tokens: the pages that hold them, and a mask."""
    page, new = paged.store.shape.page, query.shape[2]
    true = TrueDistance()
    outs = []
    for row, (sequence, before) in enumerate(zip(paged.sequences, paged.before, strict=True)):
        first = max(0, before - window + 1) // page
        pages = torch.arange(first, -(-(before + new) // page), device=query.device)
        keys, values = paged.store.gather(sequence, layer, pages[None])
        tokens = torch.arange(first * page, before + new, device=query.device)
        keys, values = keys[None, :, : len(tokens)], values[None, :, : len(tokens)]
        asked = query[row, None]
        places = torch.arange(before, before + new, device=query.device)
        if paged.positions is not None and frequencies is not None:
            at = places[:1]
            keys = placed(keys, tokens, at, true, frequencies)
            asked = rotate(asked, (places - at)[:, None] * frequencies)
        ago = places[:, None] - tokens
        seen = (ago >= 0) & (ago < window)
        outs.append(scaled_dot_product_attention(asked, keys, values, attn_mask=seen, scale=scale, enable_gqa=True))
    return torch.cat(outs)
