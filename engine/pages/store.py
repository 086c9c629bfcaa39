"""`PageStore`: keys and values of sequences in pages, on a device with slower memory beneath it.

A page is a block: an id that stays while the page moves. Blocks are shared between sequences and counted, and whoever
writes to a shared one writes to a copy. A block's layers move in runs, so that a copy to a GPU is large; a slot of the
pool holds one run of one block. A store is used by one thread at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from longleaf.engine.attention.contract import Paged
from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.pool import Pool
from longleaf.engine.pages.quantise import Format, decode, encode, record_bytes
from longleaf.engine.pages.shape import PageShape

_FIRST_BLOCKS = 256
# What a pool over a tier holds where no capacity is given, unless one call needs more.
_POOL_BYTES = 256 << 20

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

    stored: Format

    def read(self, page: int, first: int, layers: int) -> torch.Tensor:
        """Records uint8 `[layers, record_bytes]` of a page, from layer `first`. Raises `SegmentDamaged`."""
        ...


@dataclass(slots=True)
class _Sequence:
    """`step` tokens are being appended, layer by layer; `done` are the layers that have them."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0
    step: int = 0
    done: set[int] = field(default_factory=set)
    changed: int = 0
    tables: dict[int, tuple[int, int, torch.Tensor]] = field(default_factory=dict)


class PageStore:
    """Keys and values of many sequences; see the module.

    `capacity` is the pages the device holds, each in all layers; None grows. With a `host` tier, or a `format` other
    than exact, pages that the device has no room for lie in the host's memory in that format, and come back when they
    are wanted, the least recently used going out for them. A page is in full precision until it first goes out.
    """

    def __init__(
        self,
        shape: PageShape,
        *,
        device: str | torch.device = "cpu",
        capacity: int | None = None,
        host: HostTier | None = None,
        format: Format = "exact",
    ) -> None:
        self.shape = shape
        self.device = torch.device(device)
        self.format: Format = format
        self.host = HostTier() if host is None and format != "exact" else host
        self._record = record_bytes(shape, format)
        on_gpu = self.device.type == "cuda"
        self._run = shape.layers
        if self.host is not None:
            # A CPU reads what a layer wants and no more; a bus wants large copies.
            self._run = max(1, min(shape.layers, self.host.copy_bytes // self._record)) if on_gpu else 1
            self.host.bind(self._run * self._record, pinned=on_gpu)
        self._groups = -(-shape.layers // self._run)
        slots = None if capacity is None else capacity * self._groups
        self._pool = Pool(shape, self._run, self.device, slots)
        self._soft = slots
        if slots is None and self.host is not None:
            self._soft = max(1, _POOL_BYTES // (self._run * shape.layer_bytes))
        self._side = torch.cuda.Stream(self.device) if on_gpu and self.host is not None else None
        self._arriving: dict[int, torch.cuda.Event] = {}

        self._sequences: dict[int, _Sequence] = {}
        self._next_sequence = 1
        self._free_blocks: list[int] = []
        self._next_block = 1
        self._references = np.zeros(_FIRST_BLOCKS, np.int32)
        self._place = np.zeros((self._groups, _FIRST_BLOCKS), np.int32)  # slot, 0 where it is not on the device
        self._below = np.full((self._groups, _FIRST_BLOCKS), -1, np.int32)  # place in the host tier
        self._sealed = np.zeros((self._groups, _FIRST_BLOCKS), np.bool_)  # full, in all layers of the group
        self._written = np.zeros((self._groups, _FIRST_BLOCKS), np.bool_)  # the place in the host tier holds it
        self._files: dict[int, tuple[Source, int]] = {}
        self._moved = [0] * self._groups
        self._owner = np.zeros((2, self._pool.slots), np.int32)  # group and block of a slot
        self._used = np.zeros(self._pool.slots, np.int64)
        self._clock = 0
        self._hits = self._misses = self._bytes_moved = self._evictions = 0

    # Sequences

    def new(self) -> int:
        """Begin an empty sequence; returns its id."""
        return self._add(_Sequence())

    def fork(self, sequence: int, tokens: int) -> int:
        """Begin a sequence with the first `tokens` tokens of another. No keys or values are copied until one of the
        two writes to a partly filled page that both have."""
        held = self._held(sequence)
        self._check_tokens(held, tokens)
        blocks = held.blocks[: self.shape.pages(tokens)]
        self._references[blocks] += 1
        return self._add(_Sequence(blocks, tokens))

    def adopt(self, pages: Sequence[tuple[Source, int]], tokens: int) -> int:
        """Begin a sequence of `tokens` tokens whose pages are those of files, read when they are wanted."""
        if len(pages) != self.shape.pages(tokens):
            raise ValueError(f"{len(pages)} pages of {self.shape.page} tokens cannot be {tokens} tokens")
        blocks = self._take_blocks(len(pages))
        self._files.update(zip(blocks, pages, strict=True))
        self._sealed[:, blocks] = True
        return self._add(_Sequence(blocks, tokens))

    def drop(self, sequence: int) -> None:
        """Let go of a sequence, and of the pages that no other has."""
        held = self._held(sequence)
        del self._sequences[sequence]
        self._release(held.blocks)

    def length(self, sequence: int) -> int:
        """Tokens that all layers have."""
        return self._held(sequence).length

    def truncate(self, sequence: int, tokens: int) -> None:
        """Keep the first `tokens` tokens. What an unfinished step appended goes in any case."""
        held = self._held(sequence)
        self._check_tokens(held, tokens)
        held.length = tokens
        self._abandon(held)

    # Writing

    def append(self, sequence: int, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the next tokens of one layer: `keys` and `values` `[kv_heads, new, head_size]`.

        All layers append as many in a step, each once, in any order; the length counts them when the last layer has.
        Raises `PagesFull` where there is no room; the sequence then has the length it had before the step.
        """
        held = self._held(sequence)
        new = int(keys.shape[1])
        wanted = (self.shape.kv_heads, new, self.shape.head_size)
        if tuple(keys.shape) != wanted or tuple(values.shape) != wanted:
            raise ValueError(f"keys {tuple(keys.shape)} and values {tuple(values.shape)}; both must be {wanted}")
        if layer in held.done or not 0 <= layer < self.shape.layers:
            raise ValueError(f"layer {layer} of {self.shape.layers} has appended in this step, or is none of them")
        if held.done and new != held.step:
            raise ValueError(f"layer {layer} appends {new} tokens and the layers before it {held.step}")
        if new == 0:
            return
        group, inner = divmod(layer, self._run)
        try:
            if not held.done:
                self._begin(held, new)
            slots = self._writable(held, group)
        except Exception:
            self._abandon(held)
            raise
        pool_keys, pool_values = self._pool.layer(inner)
        self._write(pool_keys, slots, held.length, keys)
        self._write(pool_values, slots, held.length, values)
        held.done.add(layer)
        if self.host is not None:
            try:
                self._seal(held, group, self.host)
            except PagesFull:
                self._abandon(held)
                raise
        if len(held.done) == self.shape.layers:
            held.length += held.step
            held.step = 0
            held.done.clear()

    # Reading

    def paged(self, sequences: Sequence[int], layer: int) -> Paged:
        """One layer of these sequences, all pages on the device; good until the store is next written to.

        Tokens that this layer has appended count, those that only others have do not. Raises `PagesFull` where the
        device cannot hold all pages at once.
        """
        group, inner = divmod(layer, self._run)
        rows = [self._held(sequence) for sequence in sequences]
        lengths = [self._length(held, layer) for held in rows]
        if self._tiered:
            blocks = {block for held, length in zip(rows, lengths, strict=True) for block in self._blocks(held, length)}
            self._resident(group, np.fromiter(blocks, np.int32, len(blocks)))
        tables = [
            self._table(held, group)[: self.shape.pages(length)] for held, length in zip(rows, lengths, strict=True)
        ]
        table = tables[0][None] if len(tables) == 1 else torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)
        keys, values = self._pool.layer(inner)
        return Paged(keys, values, table, torch.tensor(lengths, dtype=torch.int32, device=self.device))

    def blocks(self, sequences: Sequence[int], layer: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """What a summary buffer is kept by: the blocks of the logical pages, int32 `[rows, logical]` padded with 0, and
        `layer`'s lengths, int32 `[rows]`.

        A block keeps its id wherever its page lies, and is less than `block_room`. Where every page is on the device
        because there is no tier and no file beneath it, blocks and physical pages are the same numbers.
        """
        rows = [self._held(sequence) for sequence in sequences]
        lengths = [self._length(held, layer) for held in rows]
        ids = [
            torch.tensor(self._blocks(held, length), dtype=torch.int32)
            for held, length in zip(rows, lengths, strict=True)
        ]
        table = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return table.to(self.device), torch.tensor(lengths, dtype=torch.int32, device=self.device)

    @property
    def block_room(self) -> int:
        """One more than the largest block so far."""
        return self._next_block

    def ensure(self, sequence: int, layer: int, pages: torch.Tensor) -> torch.Tensor:
        """Bring logical pages to the device; returns their physical pages for `paged`'s pool, int32 of their shape.

        A page of -1 gives 0. Good until the store is next asked for pages. Raises `PagesFull`.
        """
        held = self._held(sequence)
        group = layer // self._run
        if self._tiered:
            logical = pages.detach().cpu().numpy()
            blocks = np.asarray(held.blocks, np.int32)[logical[logical >= 0]]
            self._resident(group, np.unique(blocks))
        table = self._table(held, group)
        index = pages.to(self.device, torch.int64)
        return torch.where(index < 0, 0, table[index.clamp(min=0)])

    def gather(self, sequence: int, layer: int, pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of keys and values `[kv_heads, budget * page, head_size]` of logical pages `[kv_heads or 1, budget]`.

        A page of -1 gives zeros. What lies behind the last token of a partly filled page is finite and means nothing.
        """
        physical = self.ensure(sequence, layer, pages)
        heads, inner = self.shape.kv_heads, layer % self._run
        head = torch.arange(heads, device=self.device)[:, None]
        first = (physical.to(torch.int64) * self._run + inner) * (2 * heads) + head
        rows = torch.stack([first, first + heads])
        found = self._pool.rows().index_select(0, rows.flatten())
        found = found.view(2, heads, -1, self.shape.head_size)
        return found[0], found[1]

    def pool(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer as `paged` gives them, `[physical, kv_heads, page, head_size]`."""
        return self._pool.layer(layer % self._run)

    def prefetch(self, sequence: int, layer: int, pages: torch.Tensor) -> None:
        """Begin to bring logical pages to a GPU, beside what it computes; on a CPU there is nothing to begin.

        `pages` best lies on the host: reading it from a GPU waits for the GPU. Pages that find no room are left.
        """
        if self._side is None:
            return
        held, group = self._held(sequence), layer // self._run
        logical = pages.detach().cpu().numpy()
        blocks = np.unique(np.asarray(held.blocks, np.int32)[logical[logical >= 0]])
        missing = blocks[self._place[group, blocks] == 0][: self._spare()]
        if not len(missing):
            return
        self._side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._side):
            self._fetch(group, missing, keep=blocks)
            self._arriving[group] = self._side.record_event()

    def stats(self) -> Traffic:
        """Traffic since the store was made."""
        return Traffic(self._hits, self._misses, self._bytes_moved, self._evictions)

    # Blocks

    @property
    def _tiered(self) -> bool:
        return self.host is not None or bool(self._files)

    def _held(self, sequence: int) -> _Sequence:
        held = self._sequences.get(sequence)
        if held is None:
            raise ValueError(f"the store has no sequence {sequence}; it was dropped or never begun")
        return held

    def _add(self, held: _Sequence) -> int:
        sequence = self._next_sequence
        self._next_sequence += 1
        self._sequences[sequence] = held
        return sequence

    def _check_tokens(self, held: _Sequence, tokens: int) -> None:
        if not 0 <= tokens <= held.length:
            raise ValueError(f"{tokens} tokens of a sequence that has {held.length}")

    def _length(self, held: _Sequence, layer: int) -> int:
        return held.length + (held.step if layer in held.done else 0)

    def _blocks(self, held: _Sequence, length: int) -> list[int]:
        return held.blocks[: self.shape.pages(length)]

    def _take_blocks(self, count: int) -> list[int]:
        blocks = [heapq.heappop(self._free_blocks) for _ in range(min(count, len(self._free_blocks)))]
        fresh = count - len(blocks)
        blocks += range(self._next_block, self._next_block + fresh)
        self._next_block += fresh
        while self._next_block > len(self._references):
            more = len(self._references)
            self._references = np.pad(self._references, (0, more))
            self._place = np.pad(self._place, ((0, 0), (0, more)))
            self._below = np.pad(self._below, ((0, 0), (0, more)), constant_values=-1)
            self._sealed = np.pad(self._sealed, ((0, 0), (0, more)))
            self._written = np.pad(self._written, ((0, 0), (0, more)))
        self._references[blocks] = 1
        return blocks

    def _release(self, blocks: Sequence[int]) -> None:
        if not blocks:
            return
        self._references[blocks] -= 1
        gone = [block for block in blocks if self._references[block] == 0]
        for group in range(self._groups):
            for slot in self._place[group, gone]:
                if slot:
                    self._owner[:, slot] = 0
                    self._pool.give(int(slot))
            for place in self._below[group, gone]:
                if place >= 0 and self.host is not None:
                    self.host.give(int(place))
            self._moved[group] += 1
        self._place[:, gone] = 0
        self._below[:, gone] = -1
        self._sealed[:, gone] = False
        self._written[:, gone] = False
        for block in gone:
            self._files.pop(block, None)
            heapq.heappush(self._free_blocks, block)

    # A step

    def _begin(self, held: _Sequence, new: int) -> None:
        """Take blocks for a step. A partly filled page is copied first where it is shared or was full before, so
        that what others read, or what lies beneath, stays as it is."""
        if held.length % self.shape.page:
            last = held.blocks[-1]
            if self._references[last] > 1 or last in self._files or self._sealed[:, last].any():
                held.blocks[-1] = self._copied(last)
                held.changed += 1
        held.step = new
        more = self.shape.pages(held.length + new) - len(held.blocks)
        held.blocks += self._take_blocks(more)
        held.changed += 1

    def _copied(self, block: int) -> int:
        copy = self._take_blocks(1)[0]
        try:
            for group in range(self._groups):
                slot = int(self._resident(group, np.array([block], np.int32))[0])
                target = self._take_slots(group, [copy], keep=np.array([block], np.int32))[0]
                self._pool.tensor[target] = self._pool.tensor[slot]
        except Exception:
            self._release([copy])
            raise
        self._release([block])
        return copy

    def _abandon(self, held: _Sequence) -> None:
        """Take back what an unfinished step took, and what lies behind the sequence's length."""
        held.step = 0
        held.done.clear()
        keep = self.shape.pages(held.length)
        gone = held.blocks[keep:]
        del held.blocks[keep:]
        held.changed += 1
        self._release(gone)

    def _writable(self, held: _Sequence, group: int) -> Ids:
        """Slots of the pages that the step writes to, taken where they are not yet."""
        blocks = np.asarray(held.blocks[held.length // self.shape.page :], np.int32)
        slots = self._place[group, blocks]
        fresh = blocks[slots == 0]
        if len(fresh):
            self._take_slots(group, fresh.tolist(), keep=blocks)
            slots = self._place[group, blocks]
        return slots

    def _write(self, pool: torch.Tensor, slots: Ids, start: int, new: torch.Tensor) -> None:
        """Write `new` `[kv_heads, new, head_size]` at token `start`, whose page is the first of `slots`."""
        page, count = self.shape.page, int(new.shape[1])
        offset = start % page
        done = 0
        if offset or count < page:
            done = min(page - offset, count)
            pool[int(slots[0]), :, offset : offset + done] = new[:, :done]
            slots = slots[1:]
        whole = (count - done) // page
        if whole:
            part = new[:, done : done + whole * page].unflatten(1, (whole, page)).transpose(0, 1)
            index = torch.from_numpy(slots[:whole].astype(np.int64)).to(pool.device)
            pool[index] = part.to(pool.dtype)
            done += whole * page
        if done < count:
            pool[int(slots[whole]), :, : count - done] = new[:, done:]

    def _seal(self, held: _Sequence, group: int, host: HostTier) -> None:
        """Let pages that are full go out. Their places beneath are taken now, so that room made later cannot fail."""
        first = group * self._run
        layers = range(first, min(first + self._run, self.shape.layers))
        if all(layer in held.done for layer in layers):
            page = self.shape.page
            full = held.blocks[held.length // page : (held.length + held.step) // page]
            self._below[group, full] = host.take(len(full))
            self._sealed[group, full] = True

    # Places

    def _table(self, held: _Sequence, group: int) -> torch.Tensor:
        """Slots of a sequence's pages, int32 `[logical]` on the device."""
        kept = held.tables.get(group)
        if kept is not None and kept[0] == held.changed and kept[1] == self._moved[group]:
            return kept[2]
        table = torch.from_numpy(self._place[group, held.blocks]).to(self.device)
        held.tables[group] = (held.changed, self._moved[group], table)
        return table

    def _resident(self, group: int, blocks: Ids) -> Ids:
        """Bring blocks, each named once, to the device; returns their slots."""
        arriving = self._arriving.pop(group, None)
        if arriving is not None:
            torch.cuda.current_stream(self.device).wait_event(arriving)
        slots = self._place[group, blocks]
        missing = blocks[slots == 0]
        self._misses += len(missing)
        self._hits += len(blocks) - len(missing)
        self._clock += 1
        self._used[slots] = self._clock
        if len(missing):
            self._fetch(group, missing, keep=blocks)
            slots = self._place[group, blocks]
            self._used[slots] = self._clock
        return slots

    def _fetch(self, group: int, blocks: Ids, keep: Ids) -> None:
        first = group * self._run
        layers = min(self._run, self.shape.layers - first)
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
            records = torch.stack([from_file[block] for block in some])
            self._fill([slots[block] for block in some], records, stored)
        below = [block for block in wanted if block not in from_file]
        if not below or self.host is None:
            return
        places = self._below[group, below].tolist()
        if self._side is None:
            self._fill([slots[block] for block in below], self.host.read(places).unflatten(1, (self._run, -1)))
        elif self.format == "exact":
            memory = self._pool.tensor.view(self._pool.slots, -1).view(torch.uint8)
            for block, place in zip(below, places, strict=True):
                memory[slots[block]].copy_(self.host.page(place), non_blocking=True)
        else:
            records = torch.empty(len(below), self._run * self._record, dtype=torch.uint8, device=self.device)
            for row, place in zip(records, places, strict=True):
                row.copy_(self.host.page(place), non_blocking=True)
            self._fill([slots[block] for block in below], records.unflatten(1, (self._run, -1)))

    def _fill(self, slots: list[int], records: torch.Tensor, stored: Format | None = None) -> None:
        """Write records uint8 `[n, layers, record_bytes]` to slots."""
        pages = decode(records.to(self.device), self.shape, stored or self.format)
        self._pool.tensor[:, : pages.shape[1]][torch.tensor(slots, device=self.device)] = pages

    def _take_slots(self, group: int, blocks: list[int], keep: Ids) -> list[int]:
        """Slots for blocks that have none, putting others out where that is needed; `keep` stay."""
        if self._soft is not None and self._tiered:
            taken = self._pool.high_water - 1 - self._pool.free
            over = taken + len(blocks) - self._soft
            if over > 0:
                self._evict(over, group, keep)
        slots = self._pool.take(len(blocks))
        if self._pool.slots > self._owner.shape[1]:
            more = self._pool.slots - self._owner.shape[1]
            self._owner = np.pad(self._owner, ((0, 0), (0, more)))
            self._used = np.pad(self._used, (0, more))
        self._owner[0, slots] = group
        self._owner[1, slots] = blocks
        self._used[slots] = self._clock
        self._place[group, blocks] = slots
        self._moved[group] += 1
        return slots

    def _evictable(self, group: int, keep: Ids) -> Ids:
        """Slots whose pages can lie elsewhere, and are not of the blocks `keep` in `group`."""
        groups, blocks = self._owner[:, : self._pool.high_water]
        can = (blocks > 0) & self._sealed[groups, blocks]
        if self.host is None:
            can &= np.isin(blocks, np.fromiter(self._files, np.int32, len(self._files)))
        can[self._place[group, keep]] = False
        return np.flatnonzero(can).astype(np.int32)

    def _spare(self) -> int:
        """Slots that a prefetch may fill: it must not put out what the step still needs."""
        if self._soft is None:
            return self._pool.room
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
        self._place[groups, blocks] = 0
        self._owner[:, slots] = 0
        for one in np.unique(groups).tolist():
            self._moved[one] += 1
        for slot in slots.tolist():
            self._pool.give(slot)
        self._evictions += len(slots)

    def _put_below(self, groups: Ids, blocks: Ids, slots: Ids) -> None:
        assert self.host is not None
        places = self._below[groups, blocks].tolist()
        pages = self._pool.tensor[torch.from_numpy(slots.astype(np.int64)).to(self.device)]
        for place, record in zip(places, encode(pages, self.format).flatten(start_dim=1), strict=True):
            self.host.page(place).copy_(record, non_blocking=self._side is not None)
        self._written[groups, blocks] = True
