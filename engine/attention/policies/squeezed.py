"""Squeezed Attention (Hooper et al., ACL 2025, arXiv:2411.09688): clusters of a fixed document's keys."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from longleaf.engine.attention.contract import Plan, Step, Technique
from longleaf.engine.attention.policies.dense import DensePrefill
from longleaf.engine.attention.selection import EVERYTHING, Budget, select
from longleaf.engine.attention.summary.join import Join, grouped, joined

_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Clusters:
    """What is kept of a document's keys in one layer: each cluster's direction, `[kv_heads, clusters, head_size]`, and
    for each token its cluster, int64, and its key's length along that direction, both `[kv_heads, tokens]`."""

    directions: torch.Tensor
    members: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True, slots=True)
class Squeezed(DensePrefill):
    """A page is worth the best of its tokens, whose logits are estimated by the direction of their cluster.

    Keys are clustered once for a document, by direction, into one cluster for `per_cluster` tokens (the paper: 20);
    what came after is read in any case. The paper reads single tokens, and gives all of a cluster the logit of its
    mean; here pages hold the tokens, and each counts with its own length, so that a large key is not lost among small
    ones.
    """

    budget: Budget = field(default_factory=Budget)
    per_cluster: int = 20
    join: Join = "max"
    dense_layers: int = 2
    name: str = "squeezed"

    def index(self, keys: torch.Tensor) -> Clusters:
        """Cluster a layer's keys `[kv_heads, tokens, head_size]` by k-means from evenly spaced tokens."""
        heads, tokens, size = keys.shape
        count = max(1, tokens // self.per_cluster)
        unit = torch.nn.functional.normalize(keys.float(), dim=-1)
        centres = unit[:, torch.linspace(0, tokens - 1, count, device=keys.device).long()]
        members = torch.zeros(heads, tokens, dtype=torch.int64, device=keys.device)
        for _ in range(_ROUNDS):
            members = (unit @ centres.mT).argmax(dim=-1)
            total = torch.zeros_like(centres).scatter_add_(1, members[..., None].expand(-1, -1, size), unit)
            empty = (total == 0).all(dim=-1, keepdim=True)  # a cluster without members keeps its place
            centres = torch.nn.functional.normalize(torch.where(empty, centres, total), dim=-1)
        own = centres.gather(1, members[..., None].expand(-1, -1, size))
        return Clusters(centres, members, (own * keys.float()).sum(dim=-1))

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        clusters = step.state.get("index")
        if clusters is None or step.layer < self.dense_layers:
            return None
        page, (rows, logical) = step.paged.page, step.blocks.shape
        q = grouped(query, clusters.directions.shape[0]) * step.scale
        along = q @ clusters.directions.mT
        of_tokens = along.gather(3, clusters.members[None, :, None].expand(rows, -1, along.shape[2], -1))
        of_tokens = of_tokens * clusters.lengths[None, :, None]
        whole = clusters.members.shape[1] // page
        of_pages = of_tokens[..., : whole * page].unflatten(-1, (whole, page)).amax(dim=-1)
        later = of_pages.new_full((*of_pages.shape[:-1], logical - whole), torch.finfo(torch.float32).max)
        scores = joined(torch.cat([of_pages, later], dim=-1), step.blocks, self.join)
        return select(scores, step.paged.lengths, page, self.budget)


TECHNIQUE = Technique(
    name="squeezed",
    axis="decode",
    paper="Hooper et al., ACL 2025, arXiv:2411.09688",
    cost="k-means a document once; reads 1/(2 per_cluster) of the KV and two numbers a token to score, and the budget",
    build=Squeezed,
    everything={"budget": EVERYTHING, "dense_layers": 0},
)
