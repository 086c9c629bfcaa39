"""Layers of a decode step (`graph.DecodeStep`) over pages on the card."""

from __future__ import annotations

import torch

from longleaf.engine.attention.contract import Paged, Plan
from longleaf.engine.attention.triton.append import append, summary_width
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.retrieve import Retriever


class PagedLayer:
    """A layer whose pages lie on the card. `retriever` chooses what is read; None reads everything.

    Retrievers and decoders may be shared by the layers of a step, which run one after another.
    """

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        table: torch.Tensor,
        retriever: Retriever | None,
        decoder: Decoder,
    ) -> None:
        self.keys, self.values, self.table = keys, values, table
        physical, heads, page, head_size = keys.shape
        self._kind = retriever.kind if retriever else "mean"
        self.summary = keys.new_zeros(physical, heads, summary_width(self._kind, page, head_size))
        self.plan: Plan | None = None
        self._retriever, self._decoder = retriever, decoder

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """As `StepLayer`."""
        paged = Paged(self.keys, self.values, self.table, lengths)
        if self._retriever is None:
            append(paged, self.summary, key, value, self._kind)
        else:
            self.plan = self._retriever(query, self.summary, paged, scale, new=(key, value))
        return self._decoder(query, paged, self.plan, scale)

    def fill(self, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor) -> None:
        """Store the last `new` of each row's `lengths` tokens: `key` and `value` are `[rows, kv_heads, new, size]`."""
        append(Paged(self.keys, self.values, self.table, lengths), self.summary, key, value, self._kind)
