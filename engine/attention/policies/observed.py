"""What a prompt's queries look at, worked out for the last few of each stretch and taken as true for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Observed:
    """The attention of the last queries of a stretch of a prompt.

    Query blocks `first` to `end` of the grid are the stretch's. `weights` is float32 `[rows, heads, last, end * size]`,
    the queries being tokens `places` `[last]` of the sequence; what lies past a query is 0.
    """

    first: int
    end: int
    weights: torch.Tensor
    places: torch.Tensor


def stretches(
    query: torch.Tensor, keys: torch.Tensor, start: int, size: int, grain: int, last: int, scale: float
) -> Iterator[Observed]:
    """Observe a chunk stretch by stretch, on a grid of `grain` tokens, a multiple of `size`.

    A stretch's choice is made by its own last `last` queries, so reading in chunks that end on the grid chooses as
    reading at once does. Cut elsewhere, a stretch is judged by the last queries that its chunk has of it (MInference
    looks at the prompt's end alone, which a chunked prefill does not have).
    """
    rows, heads, new, _ = query.shape
    kv_heads, held = keys.shape[1], keys.shape[2]
    for number in range(start // grain, (start + new - 1) // grain + 1):
        low, high = max(start, number * grain), min(held, (number + 1) * grain)
        count = min(last, high - low)
        asked = query[:, :, high - start - count : high - start].float()
        places = torch.arange(high - count, high, device=query.device)
        q = asked.reshape(rows, kv_heads, heads // kv_heads * count, -1)
        logits = (q @ keys[:, :, :high].float().mT * scale).view(rows, heads, count, high)
        future = torch.arange(high, device=query.device) > places[:, None]
        weights = logits.masked_fill_(future, float("-inf")).softmax(dim=-1)
        end = -(-high // size)
        weights = torch.nn.functional.pad(weights, (0, end * size - high))
        yield Observed(low // size, end, weights, places)


def by_column(observed: Observed, size: int) -> torch.Tensor:
    """Attention to each block of keys, `[rows, heads, end]`: vertical lines."""
    paid: torch.Tensor = observed.weights.sum(dim=2).unflatten(-1, (-1, size)).sum(dim=-1)
    return paid


def by_distance(observed: Observed, size: int) -> torch.Tensor:
    """Attention by how many blocks ago it went, `[rows, heads, end]`: slashes. A distance between two blocks' counts
    for the nearer."""
    rows, heads, _, width = observed.weights.shape
    ago = (observed.places[:, None] - torch.arange(width, device=observed.places.device)).clamp_min(0) // size
    total = observed.weights.new_zeros(rows, heads, observed.end)
    return total.scatter_add_(2, ago.flatten().expand(rows, heads, -1), observed.weights.flatten(2))


def lines(columns: torch.Tensor, slashes: torch.Tensor, first: int) -> torch.Tensor:
    """Blocks on chosen vertical lines and slashes: both bool `[rows, heads, end]`, gives `[rows, heads, query, end]`.

    A slash of distance d blocks passes through the d-th block before a query's and the one before that.
    """
    end = columns.shape[-1]
    ago = torch.arange(first, end, device=columns.device)[:, None] - torch.arange(end, device=columns.device)
    wide = slashes.clone()
    wide[..., 1:] |= slashes[..., :-1]
    on = wide[:, :, ago.clamp_min(0)]
    return (on | columns[:, :, None]) & (ago >= 0)


def covering(weights: torch.Tensor, share: float, least: int) -> torch.Tensor:
    """The smallest set of entries of the last dimension that holds `share` of its sum, and at least `least`; bool."""
    order, place = weights.sort(dim=-1, descending=True)
    held = order.cumsum(dim=-1) - order
    keep = held < share * order.sum(dim=-1, keepdim=True)
    keep[..., :least] = True
    return torch.zeros_like(keep).scatter(-1, place, keep)


def spread(parts: list[torch.Tensor], ends: list[int]) -> torch.Tensor:
    """Block masks of stretches, one after the other, as wide as the last."""
    wide = [torch.nn.functional.pad(part, (0, ends[-1] - end)) for part, end in zip(parts, ends, strict=True)]
    return torch.cat(wide, dim=2)
