"""Replies that run in circles: a small model, greedily decoded, may say one thing over and over to its limit."""

from __future__ import annotations

from collections.abc import Sequence

REPEATS = 5
LEAST_TOKENS = 24
_LONGEST_PERIOD = 40


def runs_in_circles(ids: Sequence[int]) -> bool:
    """Whether the end of `ids` is one sequence of up to 40 tokens, five times over, 24 tokens or more in all."""
    for period in range(1, min(_LONGEST_PERIOD, len(ids) // REPEATS) + 1):
        size = max(period * REPEATS, LEAST_TOKENS + -LEAST_TOKENS % period)
        if size <= len(ids) and all(ids[-place] == ids[-place - period] for place in range(1, size - period + 1)):
            return True
    return False
