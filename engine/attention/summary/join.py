"""What summaries share: gathering a row's pages, and joining the scores of a group of query heads."""

from __future__ import annotations

from typing import Literal

import torch

Join = Literal["max", "nrm", "share"]
"""How the query heads of one KV head agree on pages.

`max`: a page is as good as the head that wants it most says. `nrm`: the share of each head's attention that the page
would get, added up, so that a head with large logits does not outvote the others (LOCKS). `share`: the largest of these
shares.
"""


def grouped(query: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """`[rows, heads, head_size]` as `[rows, kv_heads, group, head_size]`, in float32."""
    rows, heads, size = query.shape
    return query.reshape(rows, kv_heads, heads // kv_heads, size).float()


def of_pages(buffer: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """A row's part of a summary buffer, float32 `[rows, kv_heads, logical, width]`."""
    rows, logical = table.shape
    taken = buffer.index_select(0, table.reshape(-1).long())
    return taken.view(rows, logical, *buffer.shape[1:]).transpose(1, 2).float()


def joined(scores: torch.Tensor, table: torch.Tensor, join: Join) -> torch.Tensor:
    """One score a page from those of a group: `[rows, kv_heads, group, logical]` to `[rows, kv_heads, logical]`.

    Pages that a row does not have are -inf in the result, whatever they were.
    """
    real = table > 0
    if join in ("nrm", "share"):
        masked = scores.masked_fill(~real[:, None, None], float("-inf"))
        # A row without pages has nothing to normalise by.
        whole = masked.logsumexp(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).min)
        shares = masked - whole
        scores = shares.logsumexp(dim=2) if join == "nrm" else shares.amax(dim=2)
    elif join == "max":
        scores = scores.amax(dim=2)
    else:
        raise ValueError(f"join {join!r} is unknown: choose max, nrm or share")
    return scores.masked_fill(~real[:, None], float("-inf"))


def real_tokens(keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys of pages, float32 `[n, kv_heads, page, head_size]`, and which tokens are real, `[n, 1, page, 1]`."""
    real = torch.arange(keys.shape[2], device=keys.device) < filled[:, None]
    return keys.index_select(0, physical).float(), real[:, None, :, None]
