"""`Recorder`: which pages of a document an answer read, and how much each mattered to the choice."""

from __future__ import annotations

import torch

from longleaf.engine.attention.contract import Plan
from longleaf.engine.contract import PageRead


class Recorder:
    """Adds up plans on the device as they are made; nothing is read back before `reads` is called.

    A plan's scores become shares of 1 over its pages, head by head, but for the first page, which takes the attention
    that is for nothing. Every layer and step that chose counts the same.
    """

    def __init__(self, pages: int, rows: int, device: torch.device) -> None:
        self._shares = torch.zeros(rows, pages + 1, device=device)
        self._times = torch.zeros(rows, pages + 1, device=device)
        self._plans = 0

    def note(self, layer: int, plan: Plan) -> None:
        """Count a plan in. `layer` is its layer; all layers are added up."""
        if plan.scores is None:
            return
        rows, lists, _ = plan.pages.shape
        pages, last = plan.pages.long(), self._shares.shape[1] - 1
        place = torch.where((pages < 1) | (pages >= last), last, pages)
        scores = plan.scores.masked_fill(place == last, float("-inf"))
        # A head that read nothing but the first page chose nothing.
        shares = scores.softmax(dim=-1).nan_to_num(0.0) / lists
        self._shares.scatter_add_(1, place.flatten(1), shares.flatten(1).float())
        self._times.scatter_add_(1, place.flatten(1), torch.full_like(shares, 1 / lists).flatten(1).float())
        self._plans += 1

    def reads(self, row: int, page: int, tokens: int) -> tuple[PageRead, ...]:
        """The pages of the document's `tokens` that were read, the most important first."""
        if not self._plans:
            return ()
        shares, times = (self._shares[row] / self._plans).tolist(), (self._times[row] / self._plans).tolist()
        found = [
            PageRead(number * page, min((number + 1) * page, tokens), shares[number], times[number])
            for number in range(1, -(-tokens // page))
            if times[number]
        ]
        return tuple(sorted(found, key=lambda read: -read.score))
