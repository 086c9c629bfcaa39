"""`Recorder`: which pages of a document an answer read, and how much each mattered to the choice."""

from __future__ import annotations

import torch

from longleaf.engine.attention.contract import Plan
from longleaf.engine.contract import PageRead


class Recorder:
    """Adds up plans on the device as they are made; nothing is read back before `reads` is called.

    A plan's scores become shares of 1 over its pages, head by head, but for the first page, which takes the attention
    that is for nothing. A page counts for what the head that looked there most gave it, as the mean over the steps: few
    heads find things, and the mean over all of them tells where a text ends. With exact summaries on 8 prompts of the
    default model (2,500 tokens, one needle) that head's page was the right one or the next to it in 7.
    """

    def __init__(self, pages: int, rows: int, device: torch.device) -> None:
        self._pages, self._rows, self._device = pages, rows, device
        self._shares: dict[int, torch.Tensor] = {}
        self._times = torch.zeros(rows, pages + 1, device=device)
        self._steps: dict[int, int] = {}

    def note(self, layer: int, plan: Plan) -> None:
        """Count a layer's plan in."""
        if plan.scores is None:
            return
        lists, last = plan.pages.shape[1], self._pages
        if layer not in self._shares:
            self._shares[layer] = torch.zeros(self._rows, lists, last + 1, device=self._device)
        pages = plan.pages.long()
        place = torch.where((pages < 1) | (pages >= last), last, pages)
        scores = plan.scores.masked_fill(place == last, float("-inf"))
        # A head that read nothing but the first page chose nothing.
        shares = scores.softmax(dim=-1).nan_to_num(0.0)
        self._shares[layer].scatter_add_(2, place, shares)
        self._times.scatter_add_(1, place.flatten(1), torch.full_like(shares, 1 / lists).flatten(1))
        self._steps[layer] = self._steps.get(layer, 0) + 1

    def reads(self, row: int, page: int, tokens: int) -> tuple[PageRead, ...]:
        """The pages of the document's `tokens` that were read, the most important first."""
        if not self._shares:
            return ()
        best = torch.stack([share[row].amax(dim=0) / self._steps[layer] for layer, share in self._shares.items()]).amax(
            dim=0
        )
        shares, times = best.tolist(), (self._times[row] / sum(self._steps.values())).tolist()
        found = [
            PageRead(number * page, min((number + 1) * page, tokens), shares[number], times[number])
            for number in range(1, -(-tokens // page))
            if times[number]
        ]
        return tuple(sorted(found, key=lambda read: -read.score))
