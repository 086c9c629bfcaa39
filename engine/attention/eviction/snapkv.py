"""SnapKV (Li et al., NeurIPS 2024, arXiv:2404.14469): what the last queries look at stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Technique


@dataclass(frozen=True, slots=True)
class SnapKV:
    """Keeps the last queries' own tokens, and those before that get most of their attention, smoothed over `pool`.

    The question must be among the last queries, so what is kept serves that question and perhaps no other.
    """

    pool: int = 5
    name: str = "snapkv"

    def keep(self, query: torch.Tensor, keys: torch.Tensor, budget: int, scale: float) -> torch.Tensor:
        heads, last, size = query.shape
        kv_heads, tokens, _ = keys.shape
        q = query.reshape(kv_heads, -1, size).float()
        logits = (q @ keys.float().mT * scale).view(kv_heads, heads // kv_heads, last, tokens)
        places = torch.arange(tokens - last, tokens, device=keys.device)
        future = torch.arange(tokens, device=keys.device) > places[:, None]
        paid = logits.masked_fill(future, float("-inf")).softmax(dim=-1).sum(dim=(1, 2))
        smooth = torch.nn.functional.avg_pool1d(paid, self.pool, stride=1, padding=self.pool // 2)
        smooth[:, tokens - last :] = float("inf")
        return smooth.topk(min(budget, tokens), dim=-1).indices.sort(dim=-1).values


TECHNIQUE = Technique(
    name="snapkv",
    axis="eviction",
    paper="Li et al., NeurIPS 2024, arXiv:2404.14469",
    cost="keeps `budget` tokens a head; serves the question it was made for",
    build=SnapKV,
)
