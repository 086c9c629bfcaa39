"""`PageStore`: keys and values of sequences in pages, on a device with slower memory beneath it.

A page is a block: an id that stays while the page moves. Blocks are shared between sequences and counted, and whoever
writes to a shared one writes to a copy. A block's layers move in runs, so that a copy to a GPU is large; a slot of the
pool holds one run of one block. A store is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from longleaf.engine.attention.contract import Paged
from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.blocks import Blocks, Ids, Source, Traffic, index
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.quantise import Format, encode, record_bytes
from longleaf.engine.pages.shape import PageShape

__all__ = ["PageStore", "Traffic"]


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

    `run` is how many layers of a page move together: by default all where there is no tier, one where a CPU has one
    (it reads what a layer wants and no more), and on a GPU as many as make a large copy. A store on a CPU that reads
    files does best with 1.
    """

    def __init__(
        self,
        shape: PageShape,
        *,
        device: str | torch.device = "cpu",
        capacity: int | None = None,
        host: HostTier | None = None,
        format: Format = "exact",
        run: int | None = None,
    ) -> None:
        self.shape = shape
        self.device = torch.device(device)
        self.format: Format = format
        self._blocks = Blocks(shape, self.device, capacity, host, format, run)
        self._sequences: dict[int, _Sequence] = {}
        self._next_sequence = 1

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
        self._blocks.share(blocks)
        return self._add(_Sequence(blocks, tokens))

    def adopt(self, pages: Sequence[tuple[Source, int]], tokens: int) -> int:
        """Begin a sequence of `tokens` tokens whose pages are those of files, read when they are wanted."""
        if len(pages) != self.shape.pages(tokens):
            raise ValueError(f"{len(pages)} pages of {self.shape.page} tokens cannot be {tokens} tokens")
        return self._add(_Sequence(self._blocks.of_files(pages), tokens))

    def drop(self, sequence: int) -> None:
        """Let go of a sequence, and of the pages that no other has."""
        held = self._held(sequence)
        del self._sequences[sequence]
        self._blocks.release(held.blocks)

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
        group, inner = divmod(layer, self._blocks.run)
        try:
            if not held.done:
                self._extend(held, new)
                held.step = new
            slots = self._writable(held, group)
        except Exception:
            self._abandon(held)
            raise
        pool_keys, pool_values = self._blocks.pool.layer(inner)
        self._write(pool_keys, slots, held.length, keys)
        self._write(pool_values, slots, held.length, values)
        held.done.add(layer)
        try:
            self._seal(held, group)
        except PagesFull:
            self._abandon(held)
            raise
        if len(held.done) == self.shape.layers:
            self._end(held)

    def reserve(self, sequence: int, tokens: int) -> None:
        """Take pages for `tokens` tokens to come, so that `table` stays as it is while they are appended.

        Raises `PagesFull`; the sequence then has the pages it had.
        """
        held = self._held(sequence)
        if held.done:
            raise ValueError(f"sequence {sequence} is within a step; all layers must append before pages are reserved")
        try:
            self._extend(held, tokens)
            for group in range(self._blocks.groups):
                self._writable(held, group)
        except PagesFull:
            self._abandon(held)
            raise

    def advance(self, sequence: int, tokens: int) -> None:
        """Count tokens that all layers have, because a kernel wrote them to the pages reserved for them."""
        held = self._held(sequence)
        if held.done or self.shape.pages(held.length + tokens) > len(held.blocks):
            raise ValueError(f"{tokens} tokens were not reserved after token {held.length} of sequence {sequence}")
        held.step = tokens
        held.done = set(range(self.shape.layers))
        for group in range(self._blocks.groups):
            self._seal(held, group)
        self._end(held)

    def table(self, sequence: int, layer: int) -> torch.Tensor:
        """Physical pages of a sequence, reserved ones too, int32 `[logical]`; 0 where a page is not on the device."""
        return self._table(self._held(sequence), layer // self._blocks.run).clone()

    # Reading

    def paged(self, sequences: Sequence[int], layer: int) -> Paged:
        """One layer of these sequences, all pages on the device; good until the store is next written to.

        Tokens that this layer has appended count, those that only others have do not. Raises `PagesFull` where the
        device cannot hold all pages at once.
        """
        group, inner = divmod(layer, self._blocks.run)
        rows = [self._held(sequence) for sequence in sequences]
        lengths = [self._length(held, layer) for held in rows]
        if self._blocks.tiered:
            blocks = {block for held, length in zip(rows, lengths, strict=True) for block in self._until(held, length)}
            self._blocks.resident(group, np.fromiter(blocks, np.int32, len(blocks)))
        tables = [
            self._table(held, group)[: self.shape.pages(length)] for held, length in zip(rows, lengths, strict=True)
        ]
        keys, values = self._blocks.pool.layer(inner)
        return Paged(keys, values, _padded(tables), torch.tensor(lengths, dtype=torch.int32, device=self.device))

    def resident(self, sequences: Sequence[int], layer: int = 0) -> torch.Tensor | None:
        """The table that `paged` gives for `layer`, good for every layer, where all pages are on the device and stay
        there; None where one is elsewhere or may go out."""
        rows = [self._held(sequence) for sequence in sequences]
        if not all(self._blocks.stays(held.blocks) for held in rows):
            return None
        return _padded([self._table(held, 0)[: self.shape.pages(self._length(held, layer))] for held in rows])

    def blocks(self, sequences: Sequence[int], layer: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """What a summary buffer is kept by: the blocks of the logical pages, int32 `[rows, logical]` padded with 0, and
        `layer`'s lengths, int32 `[rows]`.

        A block keeps its id wherever its page lies, and is less than `block_room`. In a store that has no tier, reads
        no file and moves all layers together, blocks and physical pages are the same numbers.
        """
        rows = [self._held(sequence) for sequence in sequences]
        lengths = [self._length(held, layer) for held in rows]
        ids = [
            torch.tensor(self._until(held, length), dtype=torch.int32)
            for held, length in zip(rows, lengths, strict=True)
        ]
        table = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return table.to(self.device), torch.tensor(lengths, dtype=torch.int32, device=self.device)

    @property
    def block_room(self) -> int:
        """One more than the largest block so far."""
        return self._blocks.room

    def ensure(self, sequence: int, layer: int, pages: torch.Tensor) -> torch.Tensor:
        """Bring logical pages to the device; returns their physical pages for `paged`'s pool, int32 of their shape.

        A page of -1 gives 0. Good until the store is next asked for pages. Raises `PagesFull`.
        """
        held = self._held(sequence)
        group = layer // self._blocks.run
        if self._blocks.tiered:
            logical = pages.detach().cpu().numpy()
            blocks = np.asarray(held.blocks, np.int32)[logical[logical >= 0]]
            self._blocks.resident(group, np.unique(blocks))
        table = self._table(held, group)
        index = pages.to(self.device, torch.int64)
        return torch.where(index < 0, 0, table[index.clamp(min=0)])

    def gather(self, sequence: int, layer: int, pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of keys and values `[kv_heads, budget * page, head_size]` of logical pages `[kv_heads or 1, budget]`.

        A page of -1 gives zeros. What lies behind the last token of a partly filled page is finite and means nothing.
        """
        physical = self.ensure(sequence, layer, pages)
        heads, inner = self.shape.kv_heads, layer % self._blocks.run
        head = torch.arange(heads, device=self.device)[:, None]
        first = (physical.to(torch.int64) * self._blocks.run + inner) * (2 * heads) + head
        rows = torch.stack([first, first + heads])
        found = self._blocks.pool.rows().index_select(0, rows.flatten())
        found = found.view(2, heads, -1, self.shape.head_size)
        return found[0], found[1]

    def pool(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer as `paged` gives them, `[physical, kv_heads, page, head_size]`."""
        return self._blocks.pool.layer(layer % self._blocks.run)

    def prefetch(self, sequence: int, layer: int, pages: torch.Tensor) -> None:
        """Begin to bring logical pages to a GPU, beside what it computes; on a CPU there is nothing to begin.

        `pages` best lies on the host: reading it from a GPU waits for the GPU. Pages that find no room are left.
        """
        if self.device.type == "cpu":
            return
        logical = pages.detach().cpu().numpy()
        blocks = np.asarray(self._held(sequence).blocks, np.int32)[logical[logical >= 0]]
        self._blocks.prefetch(layer // self._blocks.run, np.unique(blocks))

    def records(self, sequence: int, pages: range, tokens: int, stored: Format) -> torch.Tensor:
        """Pages as they are kept in a file: uint8 `[pages, layers, record_bytes]` on the CPU, in any format.

        What lies behind token `tokens` repeats the last one, so that the same text gives the same bytes. Pages that
        went out in this format are given as they lie there. Raises `PagesFull` where they must come back and cannot.
        """
        blocks = self._held(sequence).blocks[pages.start : pages.stop]
        ragged = tokens % self.shape.page if pages.stop == self.shape.pages(tokens) else 0
        found = torch.empty(len(blocks), self.shape.layers, record_bytes(self.shape, stored), dtype=torch.uint8)
        for group in range(self._blocks.groups):
            first = group * self._blocks.run
            layers = slice(first, min(first + self._blocks.run, self.shape.layers))
            anew: list[int] = []
            for row, block in enumerate(blocks):
                last = ragged and row == len(blocks) - 1
                kept = None if last else self._blocks.as_kept(block, group, stored)
                if kept is None:
                    anew.append(row)
                else:
                    found[row, layers] = kept
            if not anew:
                continue
            slots = self._blocks.resident(group, np.array([blocks[row] for row in anew], np.int32))
            numbers = self._blocks.pool.tensor[index(slots, self.device), : layers.stop - first]
            if ragged and anew[-1] == len(blocks) - 1:
                numbers[-1, ..., ragged:, :] = numbers[-1, ..., ragged - 1 : ragged, :]
            found[torch.tensor(anew), layers] = encode(numbers, stored).cpu()
        return found

    def stats(self) -> Traffic:
        """Traffic since the store was made."""
        return self._blocks.traffic()

    # Blocks

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

    def _until(self, held: _Sequence, length: int) -> list[int]:
        return held.blocks[: self.shape.pages(length)]

    # A step

    def _extend(self, held: _Sequence, new: int) -> None:
        """Take blocks for tokens to come. A partly filled page is copied first where it is shared or was full before,
        so that what others read, or what lies beneath, stays as it is."""
        if held.length % self.shape.page:
            at = held.length // self.shape.page
            last = held.blocks[at]
            if self._blocks.fixed(last):
                held.blocks[at] = self._blocks.copied(last)
                held.changed += 1
        more = self.shape.pages(held.length + new) - len(held.blocks)
        if more > 0:
            held.blocks += self._blocks.take(more)
            held.changed += 1

    def _end(self, held: _Sequence) -> None:
        held.length += held.step
        held.step = 0
        held.done.clear()

    def _abandon(self, held: _Sequence) -> None:
        """Take back what an unfinished step took, and what lies behind the sequence's length."""
        held.step = 0
        held.done.clear()
        keep = self.shape.pages(held.length)
        gone = held.blocks[keep:]
        del held.blocks[keep:]
        held.changed += 1
        self._blocks.release(gone)

    def _writable(self, held: _Sequence, group: int) -> Ids:
        """Slots of the pages that are written to next, reserved ones too."""
        blocks = np.asarray(held.blocks[held.length // self.shape.page :], np.int32)
        return self._blocks.writable(group, blocks)

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
            part = new[:, done : done + whole * page].reshape(len(new), whole, page, -1).transpose(0, 1)
            pool[index(slots[:whole], pool.device)] = part.to(pool.dtype)
            done += whole * page
        if done < count:
            pool[int(slots[whole]), :, : count - done] = new[:, done:]

    def _seal(self, held: _Sequence, group: int) -> None:
        first = group * self._blocks.run
        layers = range(first, min(first + self._blocks.run, self.shape.layers))
        if all(layer in held.done for layer in layers):
            page = self.shape.page
            self._blocks.seal(group, held.blocks[held.length // page : (held.length + held.step) // page])

    # Places

    def _table(self, held: _Sequence, group: int) -> torch.Tensor:
        """Slots of a sequence's pages, int32 `[logical]` on the device."""
        kept = held.tables.get(group)
        if kept is not None and kept[0] == held.changed and kept[1] == self._blocks.moved[group]:
            return kept[2]
        table = torch.from_numpy(self._blocks.slots[group, held.blocks]).to(self.device)
        held.tables[group] = (held.changed, self._blocks.moved[group], table)
        return table


def _padded(tables: list[torch.Tensor]) -> torch.Tensor:
    """Tables of sequences as rows, 0 after the end of a shorter one."""
    return tables[0][None] if len(tables) == 1 else torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)
