"""What a card has room for on its chip."""

from __future__ import annotations

from functools import cache

import torch

# Beside the tiles a program keeps what its warps tell one another.
_SPARE_BYTES = 8 << 10
# What any card has; AMD's do not say.
_LEAST_BYTES = 48 << 10


def stages_that_fit(tokens: int, head_size: int, like: torch.Tensor, *, beside: int = 0, most: int = 3) -> int:
    """Stages of a loop over tiles of `tokens` keys and values, as many as shared memory holds and `most` at most.

    `beside` are the queries that stay there all the time. Numbers are of the type of `like`, on its card.
    """
    token = head_size * like.dtype.itemsize
    return max(1, min(most, (_shared_bytes(like.device) - beside * token) // (tokens * token)))


@cache
def _shared_bytes(device: torch.device) -> int:
    """Shared memory of one program. Without a card there is no limit."""
    if device.type != "cuda":
        return 1 << 30
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", _LEAST_BYTES)) - _SPARE_BYTES
