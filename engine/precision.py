"""Chooses the number format a model runs in, by measuring the device at hand.

bfloat16 halves the memory read per token and is twice as fast where the processor computes in it; where it
does not, it is emulated and several times slower. The processor's name does not say which, a few
multiplications do.
"""

from __future__ import annotations

import math
import time

import torch

# bfloat16 must be clearly faster to be worth its rounding.
CLEARLY_FASTER = 0.9


def faster_dtype(device: str, hidden: int, tokens: tuple[int, ...] = (256, 1)) -> torch.dtype:
    """The faster of float32 and bfloat16 on `device` for a model `hidden` wide; float32 where it is close.

    Takes some ten milliseconds. `tokens` are the sizes of step that count, alike: by default prefill (many
    tokens) and decode (one token, bound by memory).
    """
    ratios = [
        _seconds(device, torch.bfloat16, step, hidden) / _seconds(device, torch.float32, step, hidden)
        for step in tokens
    ]
    return torch.bfloat16 if math.prod(ratios) ** 0.5 < CLEARLY_FASTER else torch.float32


def _seconds(device: str, dtype: torch.dtype, tokens: int, hidden: int) -> float:
    # One token against a small matrix would be served from the processor's cache and say nothing of memory.
    columns = 4 * hidden if tokens > 1 else max(4 * hidden, 8_000_000 // hidden)
    left = torch.ones(tokens, hidden, dtype=dtype, device=device)
    right = torch.ones(columns, hidden, dtype=dtype, device=device)
    return min(_once(left, right) for _ in range(4))


def _once(left: torch.Tensor, right: torch.Tensor) -> float:
    _wait(left)
    start = time.perf_counter()
    torch.nn.functional.linear(left, right)
    _wait(left)
    return time.perf_counter() - start


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
