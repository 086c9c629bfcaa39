"""Draws the next token from logits."""

from __future__ import annotations

import torch

from longleaf.engine.contract import Sampling


class Sampler:
    """Draws one request's tokens. With a seed the draws are the same whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self.greedy = sampling.temperature <= 0
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def draw(self, logits: torch.Tensor) -> int:
        """One token id from logits `[vocabulary]`."""
        if self.greedy:
            return int(logits.argmax())
        # Drawn on the CPU: a CUDA generator gives other numbers for the same seed.
        chances = torch.softmax(logits.float().cpu() / self._temperature, dim=-1)
        if self._top_p < 1:
            chances = nucleus(chances, self._top_p)
        return int(torch.multinomial(chances, 1, generator=self._generator))


def nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the most likely tokens that together reach `top_p`; the likeliest always stays.

    Nucleus sampling, Holtzman et al. 2020 (arXiv:1904.09751). The result is not normalised.
    """
    ordered, indices = chances.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= max(top_p, torch.finfo(ordered.dtype).tiny), 0.0)
    return torch.zeros_like(chances).scatter_(-1, indices, kept)
