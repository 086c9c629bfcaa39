"""`Batch`: requests that are decoded together, with the keys and values they have so far."""

from __future__ import annotations

from typing import Any

import torch

from longleaf.engine.growing_cache import cache_name, keep_rows, merge
from longleaf.engine.row import Row

# Room added when a cache is laid out anew, in tokens; it grows past it where needed.
SPARE_TOKENS = 256


class Batch:
    """Rows decoded together. `pads` counts the padding tokens at the left of each row."""

    def __init__(self, rows: list[Row], caches: list[Any]) -> None:
        self.rows = rows
        if len(rows) == 1:
            self._cache, self._pads = caches[0], [0]
        else:
            self._cache, self._pads = merge(caches, SPARE_TOKENS)

    def inputs(self, model: Any) -> dict[str, Any]:
        """What the model takes to compute the next token of each row."""
        device = model.device
        held = int(self._cache.get_seq_length())
        pads = torch.tensor(self._pads, device=device)[:, None]
        # No mask where there is no padding: attention is faster without.
        mask = torch.arange(held + 1, device=device) >= pads if any(self._pads) else None
        return {
            "input_ids": torch.tensor([[row.last] for row in self.rows], device=device),
            "position_ids": held - pads,
            "attention_mask": mask,
            cache_name(model): self._cache,
        }

    def drop_finished(self) -> None:
        """Take finished rows out, and with them padding that only they needed."""
        kept = [index for index, row in enumerate(self.rows) if not row.finished]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if not kept:
            self._cache = None
            return
        pads = [self._pads[index] for index in kept]
        spare = min(pads)
        self._cache = keep_rows(self._cache, kept, spare, SPARE_TOKENS)
        self._pads = [pad - spare for pad in pads]
