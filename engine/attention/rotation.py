"""Rotary positions (RoFormer, Su et al., 2021) given to keys when they are read, instead of when they are made."""

from __future__ import annotations

from typing import Any

import torch

from longleaf.engine.attention.contract import Positions

# Rotations that depend on the frequencies alone; "dynamic" and "longrope" change them with the length.
_FIXED = {"default", "linear", "llama3", "yarn"}


def rotate(vectors: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn `[..., head_size]` by `angles` `[..., head_size / 2]`, halves paired as Llama pairs them."""
    cos, sin = angles.cos(), angles.sin()
    first, second = vectors.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(vectors.dtype)


def placed(
    keys: torch.Tensor, tokens: torch.Tensor, start: torch.Tensor, positions: Positions, frequencies: torch.Tensor
) -> torch.Tensor:
    """Keys `[..., heads, n, head_size]` turned to where a block from `start` `[..., 1]` sees `tokens` `[..., n]`.

    The block's first token is at 0, its others at their offset from it, and what lies before is below 0.
    """
    return rotate(keys, -positions.distance(start, tokens, frequencies) * frequencies)


def frequencies_of(model: Any) -> dict[str, torch.Tensor]:
    """Radians a token of each frequency, by layer type; one entry, "", where all layers have the same.

    Raises `ValueError` where a model's rotation depends on more than these.
    """
    rotary = getattr(model.get_decoder(), "rotary_emb", None)
    if rotary is None:
        raise ValueError(f"{type(model).__name__} has no rotary positions that could be given later")
    kinds = rotary.rope_type if isinstance(rotary.rope_type, dict) else {"": rotary.rope_type}
    for kind in kinds.values():
        if kind not in _FIXED:
            raise ValueError(f"rotation {kind!r} changes with the length, so positions cannot be given later")
    names = {kind: f"{kind}_inv_freq" if kind else "inv_freq" for kind in kinds}
    return {kind: getattr(rotary, name).float() for kind, name in names.items()}
