"""Moving keys to other positions."""

from __future__ import annotations

import torch


def rerotate(keys: torch.Tensor, shift: int, inverse_frequencies: torch.Tensor) -> torch.Tensor:
    """Keys `[..., tokens, head_size]` as they would be `shift` positions later (negative: earlier).

    Rotary positions (Su et al., 2021) turn number i and number i + half of a key together by position times frequency,
    so turning them further by the shift moves the key (PIE, He et al., 2024). `inverse_frequencies` `[half]` are the
    model's; what lies beyond 2 * half of a head is not turned. Only the position is made right: text that was read
    after other text than it now follows still differs from text read anew.
    """
    half = len(inverse_frequencies)
    angle = inverse_frequencies.double() * shift
    cosine, sine = angle.cos().float(), angle.sin().float()
    first, second = keys[..., :half].float(), keys[..., half : 2 * half].float()
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(keys.dtype)
    return torch.cat([turned, keys[..., 2 * half :]], dim=-1)
