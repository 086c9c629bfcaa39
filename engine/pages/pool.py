"""`Pool`: the memory that kernels read pages from, in equal slots."""

from __future__ import annotations

import heapq
import mmap
import os
import sys

import torch

from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.shape import PageShape

_FIRST_SLOTS = 64
_GROWTH = 1.5


class Pool:
    """Slots for `run` layers of a page each: `[slots, run, 2, kv_heads, page, head_size]`, keys before values.

    A layer's keys are a strided view of it, `[slots, kv_heads, page, head_size]`, and a slot is one stretch of memory,
    so that it is copied from and to the host at once. Slot 0 is never given away and stays zero. Memory begins as
    zeros, so what lies behind a page's last token is finite.

    `capacity` is in slots. None grows: on the CPU by address space that is reserved at once and used as it is
    written, without copying; on a GPU by copying to a pool half as large again.
    """

    def __init__(self, shape: PageShape, run: int, device: torch.device, capacity: int | None) -> None:
        self.device = device
        self._slot = (run, 2, shape.kv_heads, shape.page, shape.head_size)
        self._dtype = shape.dtype
        self._slot_bytes = run * shape.layer_bytes
        self._limit = capacity
        self._free: list[int] = []
        self._next = 1
        self.tensor = self._memory(1 + capacity if capacity is not None else self._first_room())

    @property
    def room(self) -> int:
        """Slots that can be taken before the pool is full or must grow."""
        return len(self._free) + len(self.tensor) - self._next

    @property
    def free(self) -> int:
        """Slots that were taken once and given back."""
        return len(self._free)

    @property
    def fixed(self) -> bool:
        """Whether the pool never grows."""
        return self._limit is not None or self.device.type == "cpu"

    @property
    def slots(self) -> int:
        """Slots that exist, the first included."""
        return len(self.tensor)

    @property
    def high_water(self) -> int:
        """Slots that were ever taken, the first included."""
        return self._next

    def take(self, count: int) -> list[int]:
        """Take slots, the lowest free ones, ascending. Raises `PagesFull` and takes none where there are too few."""
        if count > self.room and not self.fixed:
            self._grow(self._next + count - len(self._free))
        if count > self.room:
            raise PagesFull(
                f"{count} more pages do not fit: {self.room} of {len(self.tensor) - 1} page slots of "
                f"{self._slot_bytes:,} bytes on {self.device} are free. Drop a sequence, give the store a larger "
                "`capacity`, or a host tier"
            )
        reused = [heapq.heappop(self._free) for _ in range(min(count, len(self._free)))]
        fresh = count - len(reused)
        self._next += fresh
        return reused + list(range(self._next - fresh, self._next))

    def give(self, slot: int) -> None:
        """Give a slot back."""
        heapq.heappush(self._free, slot)

    def layer(self, inner: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the `inner`-th layer of the run, views `[slots, kv_heads, page, head_size]`."""
        return self.tensor[:, inner, 0], self.tensor[:, inner, 1]

    def rows(self) -> torch.Tensor:
        """All memory as `[slots * run * 2 * kv_heads, page * head_size]`: one head of a page a row."""
        return self.tensor.view(-1, self._slot[3] * self._slot[4])

    def _first_room(self) -> int:
        if self.device.type != "cpu":
            return _FIRST_SLOTS
        return max(_FIRST_SLOTS, _physical_memory() // self._slot_bytes)

    def _grow(self, wanted: int) -> None:
        old = self.tensor
        self.tensor = self._memory(max(wanted, int(len(old) * _GROWTH)))
        self.tensor[: len(old)] = old

    def _memory(self, slots: int) -> torch.Tensor:
        if self.device.type != "cpu":
            try:
                return torch.zeros(slots, *self._slot, dtype=self._dtype, device=self.device)
            except torch.OutOfMemoryError as error:
                raise PagesFull(
                    f"{slots} page slots of {self._slot_bytes:,} bytes do not fit on {self.device} ({error}). "
                    "Give the store a smaller `capacity` and a host tier"
                ) from error
        while True:
            try:
                memory = reserve(slots * self._slot_bytes)
                break
            except OSError as error:
                # Address space itself can be limited; a growing pool then has less room to grow.
                if self._limit is not None or slots <= _FIRST_SLOTS:
                    raise PagesFull(f"{slots * self._slot_bytes:,} bytes of memory cannot be had ({error})") from error
                slots //= 2
        return torch.frombuffer(memory, dtype=self._dtype).view(slots, *self._slot)


def reserve(size: int) -> mmap.mmap:
    """Zeroed memory of `size` bytes that counts only as it is written. Raises `OSError`."""
    if os.name == "nt":
        return mmap.mmap(-1, size)
    # Without this a fork would ask for as much again. Python names it from 3.13 on.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)


def _physical_memory() -> int:
    if not hasattr(os, "sysconf"):
        return 1 << 34
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
