"""`PageShape`: what a page of keys and values is, for one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_SMALLEST, _LARGEST, _STEP = 16, 128, 16


@dataclass(frozen=True, slots=True)
class PageShape:
    """A page holds keys and values of `page` tokens: `[layers, 2, kv_heads, page, head_size]` in `dtype`.

    All layers have as many KV heads of the same size. `page` is a multiple of 16 from 16 to 128: kernels work on 16
    tokens at a time, and a longer page is read for the sake of few of its tokens. Raises `ValueError` otherwise.
    """

    layers: int
    kv_heads: int
    head_size: int
    page: int = 64
    dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.page % _STEP or not _SMALLEST <= self.page <= _LARGEST:
            raise ValueError(
                f"a page of {self.page} tokens; it must be a multiple of {_STEP} from {_SMALLEST} to {_LARGEST}"
            )
        if min(self.layers, self.kv_heads, self.head_size) < 1:
            raise ValueError(f"{self.layers} layers, {self.kv_heads} KV heads of {self.head_size}: none may be 0")
        if not self.dtype.is_floating_point:
            raise ValueError(f"keys and values are floating-point numbers, not {self.dtype}")

    @classmethod
    def of_layers(cls, layers: Sequence[tuple[int, int]], page: int, dtype: torch.dtype) -> PageShape:
        """The shape for layers given as (kv_heads, head_size) each. Raises `ValueError` where they differ."""
        kinds = sorted(set(layers))
        if len(kinds) != 1:
            raise ValueError(
                f"pages need one (kv_heads, head_size) for all layers, not {kinds}; "
                "make one store for the layers of each kind"
            )
        return cls(len(layers), *kinds[0], page, dtype)

    @property
    def layer_numbers(self) -> int:
        """Numbers in one layer of a page, keys and values."""
        return 2 * self.kv_heads * self.page * self.head_size

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer of a page, keys and values."""
        return self.layer_numbers * self.dtype.itemsize

    @property
    def page_bytes(self) -> int:
        """Bytes of a page in all layers."""
        return self.layers * self.layer_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token in all layers."""
        return self.page_bytes // self.page

    def pages(self, tokens: int) -> int:
        """Pages that `tokens` tokens take."""
        return -(-tokens // self.page)
