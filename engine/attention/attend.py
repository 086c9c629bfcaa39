"""`TorchAttend`: executes block masks and plans with torch alone, on a CPU and on a GPU. The reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from longleaf.engine.attention.contract import BlockMask, Paged, Plan


@dataclass(frozen=True, slots=True)
class TorchAttend:
    """Skips what is not chosen for real: what it computes are dense products over gathered blocks and pages."""

    name: str = "torch"

    def prefill(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask | None, scale: float
    ) -> torch.Tensor:
        if mask is None:
            return causal(query, keys, values, scale)
        rows = [
            _blocks(query[row], keys[row], values[row], mask.blocks[row], mask.size, scale) for row in range(len(query))
        ]
        return torch.stack(rows)

    def decode(self, query: torch.Tensor, paged: Paged, plan: Plan | None, scale: float) -> torch.Tensor:
        keys, values, real = gather(paged, every_page(paged) if plan is None else plan)
        q = query.unflatten(1, (keys.shape[1], -1))
        return scaled_dot_product_attention(q, keys, values, attn_mask=real, scale=scale).flatten(1, 2)


def every_page(paged: Paged) -> Plan:
    """The plan that reads all that there is."""
    logical = paged.table.shape[1]
    pages = torch.arange(logical, device=paged.table.device, dtype=torch.int32)
    real = pages * paged.page < paged.lengths[:, None, None]
    return Plan(pages.masked_fill(~real, -1), real.sum(dim=-1).int())


def causal(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """Dense causal attention of `[rows, heads, new, size]` over `[rows, kv_heads, all, size]`, its own last."""
    new, held = query.shape[2], keys.shape[2]
    if new == 1:
        q = query.unflatten(1, (keys.shape[1], -1)).squeeze(3)
        return scaled_dot_product_attention(q, keys, values, scale=scale).flatten(1, 2)[:, :, None]
    if not query.is_cuda:
        past = slice(0, held - new)
        own = slice(held - new, held)
        return two_parts(query, keys[:, :, past], values[:, :, past], keys[:, :, own], values[:, :, own], scale)
    if new == held:
        return scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scale, enable_gqa=True)
    from torch.nn.attention.bias import causal_lower_right

    bias = causal_lower_right(new, held)
    return scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=scale, enable_gqa=True)


def gather(paged: Paged, plan: Plan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Keys and values of a plan's pages, `[rows, kv_heads, tokens, size]`, and which of them are real,
    `[rows, kv_heads or 1, 1, tokens]`; None where all are."""
    heads, page = paged.keys.shape[1:3]
    named = plan.pages.clamp_min(0).long()
    rows, lists, budget = named.shape
    physical = paged.table.long().gather(1, named.flatten(1)).view(rows, lists, budget).expand(-1, heads, -1)
    keys, values = _pages(paged.keys, physical), _pages(paged.values, physical)
    if rows == 1 and not keys.is_cuda and int(plan.counts.min()) == budget:
        # Only the newest page can be partly filled, and it is the last. A mask would cost more than looking.
        held = (budget - 1) * page + (int(paged.lengths[0]) - 1) % page + 1
        return keys[:, :, :held], values[:, :, :held], None
    tokens = named[..., None] * page + torch.arange(page, device=named.device)
    real = (tokens < paged.lengths[:, None, None, None]) & (plan.pages >= 0)[..., None]
    # A row without any token, as padding has, still needs one to look at: 0/0 would be NaN, which spreads.
    real[..., 0, 0] |= paged.lengths[:, None] == 0
    return keys, values, real.flatten(2)[:, :, None]


def _pages(pool: torch.Tensor, physical: torch.Tensor) -> torch.Tensor:
    """Pages of a pool `[slots, heads, page, size]`, each head its own: `[rows, heads, pages * page, size]`."""
    slots, heads, page, size = pool.shape
    head = torch.arange(heads, device=pool.device)[None, :, None]
    if pool.stride()[1:] != (page * size, size, 1) or pool.stride(0) % (page * size):
        return pool[physical, head].flatten(2, 3)
    # A page of one head is one stretch of memory, and rows are copied three times as fast as what is indexed.
    step = pool.stride(0) // (page * size)
    stretches = pool.as_strided(((slots - 1) * step + heads, page * size), (page * size, 1))
    return stretches.index_select(0, (physical * step + head).flatten()).view(len(physical), heads, -1, size)


def _blocks(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, blocks: torch.Tensor, size: int, scale: float
) -> torch.Tensor:
    """Block-sparse attention of one row: `query` `[heads, new, size]`, `blocks` `[heads or 1, query, key]`."""
    heads, new, _ = query.shape
    kv_heads, held, _ = keys.shape
    start = held - new
    out = torch.empty_like(query)
    chosen = blocks.cpu().numpy()
    for number, low, high in query_blocks(start, new, size):
        now, own = slice(low - start, high - start), slice(number * size, high)
        for group, past in _alike(chosen[:, number - start // size, :number], heads, kv_heads):
            kv = sorted({head // (heads // kv_heads) for head in group})
            head = torch.tensor(kv, device=keys.device)[:, None]
            tokens = (torch.tensor(past, dtype=torch.int64)[:, None] * size + torch.arange(size)).flatten()
            tokens = tokens.to(keys.device)
            out[group, now] = two_parts(
                query[group, now][None],
                keys[head, tokens][None],
                values[head, tokens][None],
                keys[kv, own][None],
                values[kv, own][None],
                scale,
            )[0]
    return out


def query_blocks(start: int, new: int, size: int) -> list[tuple[int, int, int]]:
    """Blocks of the grid that `new` tokens from `start` lie in: (number, first token, end) of what lies in each."""
    first, last = start // size, (start + new - 1) // size
    return [
        (number, max(start, number * size), min(start + new, (number + 1) * size)) for number in range(first, last + 1)
    ]


def _alike(chosen: NDArray[np.bool_], heads: int, kv_heads: int) -> list[tuple[list[int], list[int]]]:
    """Query heads that read the same blocks, and these: `chosen` is `[heads or 1, key_blocks]`.

    Where they are not all heads, each KV head stands alone, so that every query head of a group has equally many.
    """
    if len(chosen) == 1 or bool((chosen == chosen[0]).all()):
        return [(list(range(heads)), np.flatnonzero(chosen[0]).tolist())]
    groups: dict[tuple[int, bytes], list[int]] = {}
    for head in range(heads):
        groups.setdefault((head // (heads // kv_heads), chosen[head].tobytes()), []).append(head)
    return [(group, np.flatnonzero(chosen[group[0]]).tolist()) for group in groups.values()]


def two_parts(
    query: torch.Tensor,
    past_keys: torch.Tensor,
    past_values: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention over tokens that all queries see, and causally over the end, whose last tokens are the queries'.

    The two are joined by their normalisers, so that neither needs a mask: with one, torch computes what it then
    masks. All heads of a group are one long query to their KV head.
    """
    rows, heads, new, size = query.shape
    kv_heads, own = keys.shape[1], keys.shape[2]
    dtype = query.dtype
    if query.device.type != "cpu":
        mask = torch.ones(new, past_keys.shape[2] + own, dtype=torch.bool, device=query.device)
        mask = mask.tril(past_keys.shape[2] + own - new)
        keys, values = torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)
    # torch's CPU kernel is twice as fast in float32 as in bfloat16.
    query, keys, values = query.float(), keys.float(), values.float()
    if own > new:  # a chunk that begins within a block: the block's earlier tokens are past, too
        past_keys = torch.cat([past_keys.float(), keys[:, :, : own - new]], dim=2)
        past_values = torch.cat([past_values.float(), values[:, :, : own - new]], dim=2)
        keys, values = keys[:, :, own - new :], values[:, :, own - new :]
    group = heads // kv_heads
    wide_keys, wide_values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    if not past_keys.shape[2]:
        return scaled_dot_product_attention(query, wide_keys, wide_values, is_causal=True, scale=scale).to(dtype)
    here, here_mass = _with_mass(query, wide_keys, wide_values, scale, causal=True)
    folded = query.reshape(rows, kv_heads, group * new, size)
    there, there_mass = _with_mass(folded, past_keys.float(), past_values.float(), scale, causal=False)
    share = torch.sigmoid(there_mass.reshape(rows, heads, new) - here_mass)[..., None]
    return torch.lerp(here, there.reshape(rows, heads, new, size), share).to(dtype)


def _with_mass(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention on a CPU with the logarithm of what it divided by, which the public function keeps to itself."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, mass = kernel(query, keys, values, 0.0, causal, scale=scale)
    return out, mass
