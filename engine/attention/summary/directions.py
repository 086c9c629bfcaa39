"""The few directions in which a page's keys differ most, for the summaries that estimate attention mass."""

from __future__ import annotations

import torch

_ROUNDS = 3


def directions(centred: torch.Tensor, rank: int) -> torch.Tensor:
    """Orthonormal directions `[..., rank, head_size]` that hold most of `centred` `[..., tokens, head_size]`.

    Subspace iteration from the longest tokens: the same keys always give the same directions, and it needs no
    decomposition of a batch of small matrices. A direction that the keys do not fill is zero.
    """
    longest = centred.norm(dim=-1).topk(min(rank, centred.shape[-2]), dim=-1).indices
    basis = _orthonormal(centred.gather(-2, longest[..., None].expand(*longest.shape, centred.shape[-1])))
    for _ in range(_ROUNDS):
        basis = _orthonormal((centred @ basis.mT).mT @ centred)
    return basis


def _orthonormal(rows: torch.Tensor) -> torch.Tensor:
    """Gram-Schmidt over the few rows of `[..., rank, head_size]`; what is left of a dependent row becomes zero."""
    done: list[torch.Tensor] = []
    for index in range(rows.shape[-2]):
        row = rows[..., index, :]
        size = row.norm(dim=-1, keepdim=True)
        for _ in range(2):  # once more, for what rounding left behind
            for other in done:
                row = row - (row * other).sum(dim=-1, keepdim=True) * other
        left = row.norm(dim=-1, keepdim=True)
        done.append(torch.where(left > 1e-4 * size + 1e-20, row / left.clamp_min(1e-30), torch.zeros_like(row)))
    return torch.stack(done, dim=-2)
