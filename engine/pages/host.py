"""`HostTier`: the host's memory beneath a device's, in pages of several layers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch

from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.pool import reserve

_CHUNK_BYTES = 256 << 20


class HostTier:
    """Keeps what the device has no room for. Given to a `PageStore`, which binds it to its shape and format.

    A host page holds all heads' keys and values of a page of tokens for a run of layers, as many as make a copy of
    `copy_bytes`: copies of a few kilobytes run at a tenth of the bus. `limit` is in bytes; None grows. Memory is
    pinned where the store's device is a GPU.
    """

    def __init__(self, limit: int | None = None, *, copy_bytes: int = 1 << 20) -> None:
        self._limit = limit
        self.copy_bytes = copy_bytes
        self._chunks: list[torch.Tensor] = []
        self._free: list[int] = []
        self._next = 0
        self._size = 0
        self._pinned = False
        self._a_chunk = 1

    def bind(self, page_bytes: int, *, pinned: bool) -> None:
        """Hold pages of `page_bytes` each. Raises `ValueError` where the tier serves a store already."""
        if self._size:
            raise ValueError("this host tier serves another store; give each store its own")
        self._size = page_bytes
        self._pinned = pinned
        chunk = _CHUNK_BYTES if self._limit is None else min(_CHUNK_BYTES, self._limit)
        self._a_chunk = max(1, chunk // page_bytes)

    @property
    def used(self) -> int:
        """Bytes of the pages it holds."""
        return (self._next - len(self._free)) * self._size

    def take(self, count: int) -> list[int]:
        """Places for `count` pages. Raises `PagesFull` and takes none where they do not fit."""
        fresh = max(0, count - len(self._free))
        if self._limit is not None and (self._next + fresh) * self._size > self._limit:
            raise PagesFull(
                f"{count} more pages of {self._size:,} bytes do not fit in the host tier: {self.used:,} of its "
                f"{self._limit:,} bytes are taken. Drop a sequence, raise the tier's `limit`, or store int8 or int4"
            )
        while self._next + fresh > len(self._chunks) * self._a_chunk:
            self._chunks.append(self._memory())
        reused = [heapq.heappop(self._free) for _ in range(count - fresh)]
        self._next += fresh
        return reused + list(range(self._next - fresh, self._next))

    def give(self, place: int) -> None:
        """Let go of a page."""
        heapq.heappush(self._free, place)

    def page(self, place: int) -> torch.Tensor:
        """A page, a view uint8 `[page_bytes]`."""
        return self._chunks[place // self._a_chunk][place % self._a_chunk]

    def read(self, places: Sequence[int]) -> torch.Tensor:
        """Copies of pages, uint8 `[n, page_bytes]`."""
        if len(self._chunks) == 1:
            return self._chunks[0][torch.tensor(places)]
        return torch.stack([self.page(place) for place in places])

    def _memory(self) -> torch.Tensor:
        size = self._a_chunk * self._size
        try:
            if self._pinned:
                return torch.empty(self._a_chunk, self._size, dtype=torch.uint8, pin_memory=True)
            return torch.frombuffer(reserve(size), dtype=torch.uint8).view(self._a_chunk, self._size)
        except (OSError, RuntimeError) as error:
            raise PagesFull(
                f"the host has no {size:,} bytes more for pages ({error}). Give the host tier a smaller `limit`"
            ) from error
