"""`Segment`: a file with the pages of some tokens, read through a memory map.

A file is: 8 bytes of magic, the length and the CRC-32 of its head; the head, JSON; the CRC-32 of each layer of each
page, `[pages, layers]`; summaries, layer by layer, whose CRC-32s are in the head; and from a multiple of 4,096 bytes
on, records uint8 `[pages, layers, record]`. Page by page, so that any run of layers of a page is one stretch.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from longleaf.engine.errors import SegmentDamaged
from longleaf.engine.pages.quantise import Format

_MAGIC = b"LLKV0002"
_START = struct.Struct("<8sII")
_ALIGNED = 4096
_NUMBERS = 16


@dataclass(frozen=True, slots=True)
class KeptSummary:
    """One summary of a segment's pages: `numbers` `[layers, pages, kv_heads, width]`, a view of the map."""

    path: Path
    numbers: torch.Tensor
    checks: tuple[int, ...]

    @property
    def pages(self) -> int:
        return self.numbers.shape[1]

    def layer(self, layer: int) -> torch.Tensor:
        """A layer's, `[pages, kv_heads, width]`, checked as it is read. Raises as `Segment.read` does."""
        numbers = self.numbers[layer]
        if zlib.crc32(numbers.view(torch.uint8).numpy().data) != self.checks[layer]:
            raise _damaged(self.path, f"the summaries of layer {layer}")
        return numbers


@dataclass(frozen=True, slots=True)
class Segment:
    """An open segment of `tokens` tokens in `pages` pages.

    Its head was checked when it was opened; a record, and a layer of its `summaries`, is checked each time it is read,
    which costs a tenth of computing it and leaves no moment in which a changed byte could be used. `held` is kept as
    long as it.
    """

    path: Path
    tokens: int
    pages: int
    stored: Format
    summaries: Mapping[str, KeptSummary]
    records: torch.Tensor
    checks: NDArray[np.uint32]
    held: object = None

    def read(self, page: int, first: int, layers: int) -> torch.Tensor:
        """Records uint8 `[layers, record_bytes]` of a page, from layer `first`: a view of the map.

        Raises `SegmentDamaged` where they are not what was written; the file is then removed.
        """
        records = self.records[page, first : first + layers]
        for layer, record in enumerate(records.numpy(), first):
            if zlib.crc32(record) != self.checks[page, layer]:
                raise _damaged(self.path, f"page {page}, layer {layer}")
        return records


def _damaged(path: Path, place: str) -> SegmentDamaged:
    """Remove a file, and say so. Where the system keeps a mapped file, it is found damaged again the next time."""
    with suppress(OSError):
        path.unlink()
    return SegmentDamaged(
        f"{path} is damaged at {place}, and was removed. Open the document again: what the file held is computed anew"
    )


def write_segment(
    path: Path, tokens: int, stored: Format, records: torch.Tensor, summaries: Mapping[str, torch.Tensor]
) -> None:
    """Write records uint8 `[pages, layers, record_bytes]` to `path` and to the disk beneath it."""
    numbers = records.contiguous().numpy()
    checks = np.array([[zlib.crc32(record) for record in page] for page in numbers], dtype="<u4").tobytes()
    blobs = {name: summary.contiguous().view(torch.uint8).numpy().tobytes() for name, summary in summaries.items()}
    head = json.dumps(
        {
            "tokens": tokens,
            "stored": stored,
            "records": list(records.shape),
            "checks": zlib.crc32(checks),
            "summaries": [
                {
                    "name": name,
                    "dtype": str(summary.dtype).removeprefix("torch."),
                    "shape": list(summary.shape),
                    "checks": [zlib.crc32(layer) for layer in _layers(blobs[name], len(summary))],
                }
                for name, summary in summaries.items()
            ],
        }
    ).encode()
    # Summaries begin where numbers may, so that they are read where they lie in the map.
    head += b" " * (-(_START.size + len(head) + len(checks)) % _NUMBERS)
    front = b"".join([_START.pack(_MAGIC, len(head), zlib.crc32(head)), head, checks, *blobs.values()])
    with path.open("wb") as file:
        file.write(front)
        file.write(b"\0" * (-len(front) % _ALIGNED))
        file.write(numbers.data.cast("B"))
        file.flush()
        os.fsync(file.fileno())


def _layers(blob: bytes, layers: int) -> Iterator[memoryview]:
    size = len(blob) // max(1, layers)
    return (memoryview(blob)[layer * size : (layer + 1) * size] for layer in range(layers))


def open_segment(path: Path, held: object = None) -> Segment:
    """Map a segment. Raises `SegmentDamaged` where it is torn or changed, `FileNotFoundError` where it is not there."""
    try:
        return _open(path, held)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RuntimeError, OSError) as error:
        raise SegmentDamaged(f"{path} is no whole segment of keys and values ({error})") from error


def _open(path: Path, held: object) -> Segment:
    size = path.stat().st_size
    if size < _START.size:
        raise ValueError(f"it has {size} bytes")
    # `torch.from_file` lets go of the file once it is mapped; Python's mmap keeps a descriptor for each.
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    memory = whole.numpy().data
    magic, length, check = _START.unpack(memory[: _START.size])
    if magic != _MAGIC:
        raise ValueError("it begins otherwise")
    head_bytes = memory[_START.size : _START.size + length]
    if len(head_bytes) != length or zlib.crc32(head_bytes) != check:
        raise ValueError("its head is not what was written")
    head: dict[str, Any] = json.loads(bytes(head_bytes))
    pages, layers, record = head["records"]
    at = _START.size + length
    check_bytes = memory[at : at + 4 * pages * layers]
    if zlib.crc32(check_bytes) != head["checks"]:
        raise ValueError("its checksums are not what was written")
    at += len(check_bytes)
    summaries: dict[str, KeptSummary] = {}
    for entry in head["summaries"]:
        dtype = getattr(torch, entry["dtype"])
        count = dtype.itemsize * int(np.prod(entry["shape"]))
        bytes_ = whole[at : at + count]
        aligned = bytes_ if at % dtype.itemsize == 0 else bytes_.clone()
        numbers = aligned.view(dtype).view(entry["shape"])
        summaries[entry["name"]] = KeptSummary(path, numbers, tuple(entry["checks"]))
        at += count
    at += -at % _ALIGNED
    if size != at + pages * layers * record:
        raise ValueError(f"it has {size} bytes and should have {at + pages * layers * record}")
    return Segment(
        path=path,
        tokens=head["tokens"],
        pages=pages,
        stored=head["stored"],
        summaries=summaries,
        records=whole[at:].view(pages, layers, record),
        checks=np.frombuffer(bytes(check_bytes), dtype="<u4").reshape(pages, layers),
        held=held,
    )
