"""`Blocks`: pages with an id each, counted, and where every run of their layers lies: a slot of the pool, a place in
the host tier, a file."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.pool import Pool
from longleaf.engine.pages.quantise import Format, decode, encode, record_bytes
from longleaf.engine.pages.shape import PageShape

_FIRST_BLOCKS = 256
# What a pool over a tier holds where no capacity is given, unless one call needs more.
_POOL_BYTES = 256 << 20
# Pages that are unpacked together: few enough to stay in a CPU's cache.
_AT_ONCE = 32

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Pages of a run of layers that were wanted and there (`hits`) or not (`misses`), bytes brought to the device, and
    pages put out of it. Counted only where pages can lie elsewhere."""

    hits: int = 0
    misses: int = 0
    bytes_moved: int = 0
    evictions: int = 0


class Source(Protocol):
    """A file whose pages a store reads when they are wanted."""

    @property
    def stored(self) -> Format:
        """The format of its records."""
        ...

    def read(self, page: int, first: int, layers: int) -> torch.Tensor:
        """Records uint8 `[layers, record_bytes]` of a page, from layer `first`. Raises `SegmentDamaged`."""
        ...


class Blocks:
    """Ids from 1 on, each of a page in all layers. Layers move in groups of `run`.

    `slots` int32 `[groups, blocks]` are the slots of the pool, 0 where a run is not on the device; `moved` counts, for
    each group, how often they changed; `room` is one more than the largest id so far. Arguments are those of
    `PageStore`.
    """

    def __init__(
        self,
        shape: PageShape,
        device: torch.device,
        capacity: int | None,
        host: HostTier | None,
        stored: Format,
        run: int | None,
    ) -> None:
        self.shape = shape
        self.device = device
        self.stored: Format = stored
        self.host = HostTier() if host is None and stored != "exact" else host
        self._record = record_bytes(shape, stored)
        on_gpu = self.device.type == "cuda"
        if run is None:
            run = shape.layers
            if self.host is not None:
                run = self.host.copy_bytes // self._record if on_gpu else 1
        self.run = max(1, min(shape.layers, run))
        if self.host is not None:
            self.host.bind(self.run * self._record, pinned=on_gpu)
        self.groups = -(-shape.layers // self.run)
        limit = None if capacity is None else capacity * self.groups
        self.pool = Pool(shape, self.run, self.device, limit)
        self._soft = limit
        if limit is None and self.host is not None:
            self._soft = max(1, _POOL_BYTES // (self.run * shape.layer_bytes))
        self._side = _stream(self.device) if on_gpu and self.host is not None else None
        self._arriving: dict[int, torch.cuda.Event] = {}

        self._free_blocks: list[int] = []
        self.room = 1
        self._references = np.zeros(_FIRST_BLOCKS, np.int32)
        self.slots = np.zeros((self.groups, _FIRST_BLOCKS), np.int32)  # slot, 0 where it is not on the device
        self._below = np.full((self.groups, _FIRST_BLOCKS), -1, np.int32)  # place in the host tier
        self._sealed = np.zeros((self.groups, _FIRST_BLOCKS), np.bool_)  # full, in all layers of the group
        self._written = np.zeros((self.groups, _FIRST_BLOCKS), np.bool_)  # the place in the host tier holds it
        self._files: dict[int, tuple[Source, int]] = {}
        self.moved = [0] * self.groups
        self._owner = np.zeros((2, self.pool.slots), np.int32)  # group and block of a slot
        self._used = np.zeros(self.pool.slots, np.int64)
        self._clock = 0
        self._hits = self._misses = self._bytes_moved = self._evictions = 0

    @property
    def tiered(self) -> bool:
        """Whether pages can lie elsewhere than on the device."""
        return self.host is not None or bool(self._files)

    @property
    def _on_side(self) -> bool:
        """Whether a prefetch is being issued."""
        return self._side is not None and torch.cuda.current_stream(self.device) == self._side

    def traffic(self) -> Traffic:
        """Traffic so far."""
        return Traffic(self._hits, self._misses, self._bytes_moved, self._evictions)

    # Ids

    def take(self, count: int) -> list[int]:
        """Ids of empty pages, the lowest free ones."""
        blocks = [heapq.heappop(self._free_blocks) for _ in range(min(count, len(self._free_blocks)))]
        fresh = count - len(blocks)
        blocks += range(self.room, self.room + fresh)
        self.room += fresh
        while self.room > len(self._references):
            more = len(self._references)
            self._references = np.pad(self._references, (0, more))
            self.slots = np.pad(self.slots, ((0, 0), (0, more)))
            self._below = np.pad(self._below, ((0, 0), (0, more)), constant_values=-1)
            self._sealed = np.pad(self._sealed, ((0, 0), (0, more)))
            self._written = np.pad(self._written, ((0, 0), (0, more)))
        self._references[blocks] = 1
        return blocks

    def share(self, blocks: Sequence[int]) -> None:
        """Count one more user of these."""
        self._references[blocks] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Count one user less of these, and free those that have none."""
        if not blocks:
            return
        self._references[blocks] -= 1
        gone = [block for block in blocks if self._references[block] == 0]
        for group in range(self.groups):
            for slot in self.slots[group, gone]:
                if slot:
                    self._owner[:, slot] = 0
                    self.pool.give(int(slot))
            for place in self._below[group, gone]:
                if place >= 0 and self.host is not None:
                    self.host.give(int(place))
            self.moved[group] += 1
        self.slots[:, gone] = 0
        self._below[:, gone] = -1
        self._sealed[:, gone] = False
        self._written[:, gone] = False
        for block in gone:
            self._files.pop(block, None)
            heapq.heappush(self._free_blocks, block)

    def of_files(self, pages: Sequence[tuple[Source, int]]) -> list[int]:
        """Ids of pages that lie in files."""
        blocks = self.take(len(pages))
        self._files.update(zip(blocks, pages, strict=True))
        self._sealed[:, blocks] = True
        return blocks

    def fixed(self, block: int) -> bool:
        """Whether a page may not be written to: others have it too, or it was full and may lie elsewhere."""
        return bool(self._references[block] > 1 or block in self._files or self._sealed[:, block].any())

    def copied(self, block: int) -> int:
        """A page with the same content, in the place of one that is let go. Raises `PagesFull`."""
        copy = self.take(1)[0]
        try:
            for group in range(self.groups):
                slot = int(self.resident(group, np.array([block], np.int32))[0])
                target = self._take_slots(group, [copy], keep=np.array([block], np.int32))[0]
                self.pool.tensor[target] = self.pool.tensor[slot]
        except Exception:
            self.release([copy])
            raise
        self.release([block])
        return copy

    def seal(self, group: int, blocks: Sequence[int]) -> None:
        """Let pages that are full go out. Their places beneath are taken now, so that room made later cannot fail.

        Raises `PagesFull`.
        """
        if self.host is not None:
            self._below[group, blocks] = self.host.take(len(blocks))
            self._sealed[group, blocks] = True

    # Places

    def writable(self, group: int, blocks: Ids) -> Ids:
        """Slots of pages that are written to, taken where they are not yet. Raises `PagesFull`."""
        slots: Ids = self.slots[group, blocks]
        fresh = blocks[slots == 0]
        if len(fresh):
            self._take_slots(group, fresh.tolist(), keep=blocks)
            slots = self.slots[group, blocks]
        return slots

    def resident(self, group: int, blocks: Ids) -> Ids:
        """Bring blocks, each named once, to the device; returns their slots. Raises `PagesFull`, and
        `SegmentDamaged` where a file is."""
        self._wait_for([group])
        slots: Ids = self.slots[group, blocks]
        missing = blocks[slots == 0]
        self._misses += len(missing)
        self._hits += len(blocks) - len(missing)
        self._clock += 1
        self._used[slots] = self._clock
        if len(missing):
            self._fetch(group, missing, keep=blocks)
            slots = self.slots[group, blocks]
            self._used[slots] = self._clock
        return slots

    def stays(self, blocks: Sequence[int]) -> bool:
        """Whether these are on the device in all layers, in one slot each, and nothing puts pages out."""
        if self.groups > 1 or (self.tiered and self._soft is not None):
            return False
        return not self._files or bool(self.slots[0, blocks].all())

    def prefetch(self, group: int, blocks: Ids) -> None:
        """Begin to bring blocks to a GPU on another stream. What finds no room is left."""
        missing = blocks[self.slots[group, blocks] == 0][: self._spare()]
        if self._side is None or not len(missing):
            return
        self._side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._side), suppress(PagesFull):
            self._fetch(group, missing, keep=blocks)
            self._arriving[group] = self._side.record_event()

    def as_kept(self, block: int, group: int, stored: Format) -> torch.Tensor | None:
        """Records of a run of a page where it lies elsewhere in this format, else None."""
        first = group * self.run
        layers = min(self.run, self.shape.layers - first)
        if self._written[group, block] and self.stored == stored and self.host is not None:
            if self._side is not None:
                torch.cuda.synchronize(self.device)  # it may still be on its way to the host
            return self.host.page(int(self._below[group, block])).view(self.run, -1)[:layers]
        if block in self._files and self._files[block][0].stored == stored:
            source, page = self._files[block]
            return source.read(page, first, layers)
        return None

    def _wait_for(self, groups: Sequence[int]) -> None:
        """Let the current stream wait for what is being prefetched for these groups."""
        for group in groups:
            arriving = self._arriving.pop(group, None)
            if arriving is not None:
                torch.cuda.current_stream(self.device).wait_event(arriving)

    def _fetch(self, group: int, blocks: Ids, keep: Ids) -> None:
        first = group * self.run
        layers = min(self.run, self.shape.layers - first)
        wanted = blocks.tolist()
        # What can fail is read before slots change hands.
        from_file = {
            block: self._files[block][0].read(self._files[block][1], first, layers)
            for block in wanted
            if self._below[group, block] < 0
        }
        slots = dict(zip(wanted, self._take_slots(group, wanted, keep), strict=True))
        self._bytes_moved += len(wanted) * layers * self._record
        for stored in {self._files[block][0].stored for block in from_file}:
            some = [block for block in from_file if self._files[block][0].stored == stored]
            for start in range(0, len(some), _AT_ONCE):
                part = some[start : start + _AT_ONCE]
                self._fill([slots[block] for block in part], torch.stack([from_file[block] for block in part]), stored)
        below = [block for block in wanted if block not in from_file]
        if not below or self.host is None:
            return
        places = self._below[group, below].tolist()
        if self._side is None:
            for start in range(0, len(below), _AT_ONCE):
                span = slice(start, start + _AT_ONCE)
                records = self.host.read(places[span])
                self._fill([slots[block] for block in below[span]], records.view(len(records), self.run, -1))
        elif self.stored == "exact":
            memory = self.pool.tensor.view(self.pool.slots, -1).view(torch.uint8)
            for block, place in zip(below, places, strict=True):
                memory[slots[block]].copy_(self.host.page(place), non_blocking=True)
        else:
            records = torch.empty(len(below), self.run * self._record, dtype=torch.uint8, device=self.device)
            for row, place in zip(records, places, strict=True):
                row.copy_(self.host.page(place), non_blocking=True)
            self._fill([slots[block] for block in below], records.view(len(below), self.run, -1))

    def _fill(self, slots: list[int], records: torch.Tensor, stored: Format | None = None) -> None:
        """Write records uint8 `[n, layers, record_bytes]` to slots."""
        pages = decode(records.to(self.device), self.shape, stored or self.stored)
        self.pool.tensor[:, : pages.shape[1]][torch.tensor(slots, device=self.device)] = pages

    def _take_slots(self, group: int, blocks: list[int], keep: Ids) -> list[int]:
        """Slots for blocks that have none, putting others out where that is needed; `keep` stay."""
        if self._arriving and not self._on_side:
            # A prefetch may still be reading, on its way to the host, what was in the slots that it freed.
            self._wait_for(list(self._arriving))
        if self._soft is not None and self.tiered:
            taken = self.pool.high_water - 1 - self.pool.free
            over = taken + len(blocks) - self._soft
            if over > 0:
                self._evict(over, group, keep)
        slots = self.pool.take(len(blocks))
        if self.pool.slots > self._owner.shape[1]:
            more = self.pool.slots - self._owner.shape[1]
            self._owner = np.pad(self._owner, ((0, 0), (0, more)))
            self._used = np.pad(self._used, (0, more))
        self._owner[0, slots] = group
        self._owner[1, slots] = blocks
        self._used[slots] = self._clock
        self.slots[group, blocks] = slots
        self.moved[group] += 1
        return slots

    def _evictable(self, group: int, keep: Ids) -> Ids:
        """Slots whose pages can lie elsewhere, and are not of the blocks `keep` in `group`."""
        groups, blocks = self._owner[:, : self.pool.high_water]
        can = (blocks > 0) & self._sealed[groups, blocks]
        if self.host is None:
            can &= np.isin(blocks, np.fromiter(self._files, np.int32, len(self._files)))
        can[self.slots[group, keep]] = False
        if self._on_side:  # what was wanted last may be in use by the time a prefetch ends
            can[self._used[: len(can)] == self._clock] = False
        return np.flatnonzero(can).astype(np.int32)

    def _spare(self) -> int:
        """Slots that a prefetch may fill: it must not put out what the step still needs."""
        if self._soft is None:
            return self.pool.room
        return max(0, self._soft // 4)

    def _evict(self, count: int, group: int, keep: Ids) -> None:
        """Put out the `count` pages that were used longest ago, or as many as can be."""
        slots = self._evictable(group, keep)
        if len(slots) > count:
            slots = slots[np.argpartition(self._used[slots], count - 1)[:count]]
        if not len(slots):
            return
        groups, blocks = self._owner[:, slots]
        lone = (self._below[groups, blocks] >= 0) & ~self._written[groups, blocks]
        if lone.any():
            self._put_below(groups[lone], blocks[lone], slots[lone])
        self.slots[groups, blocks] = 0
        self._owner[:, slots] = 0
        for one in np.unique(groups).tolist():
            self.moved[one] += 1
        for slot in slots.tolist():
            self.pool.give(slot)
        self._evictions += len(slots)

    def _put_below(self, groups: Ids, blocks: Ids, slots: Ids) -> None:
        assert self.host is not None
        places = self._below[groups, blocks].tolist()
        pages = self.pool.tensor[index(slots, self.device)]
        for place, record in zip(places, encode(pages, self.stored).flatten(start_dim=1), strict=True):
            self.host.page(place).copy_(record, non_blocking=self._side is not None)
        self._written[groups, blocks] = True


def index(slots: Ids, device: torch.device) -> torch.Tensor:
    """Slots as torch indexes with them."""
    return torch.from_numpy(slots.astype(np.int64)).to(device)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
