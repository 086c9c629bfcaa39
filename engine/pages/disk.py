"""`Segment`: a file with the pages of some tokens, read through a memory map.

A file is: 8 bytes of magic, the length and the CRC-32 of its head; the head, JSON; the CRC-32 of each layer of each
page, `[pages, layers]`; summaries; and from a multiple of 4,096 bytes on, records uint8 `[pages, layers, record]`. Page
by page, so that any run of layers of a page is one stretch.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from longleaf.engine.errors import SegmentDamaged
from longleaf.engine.pages.quantise import Format

_MAGIC = b"LLKV0001"
_START = struct.Struct("<8sII")
_ALIGNED = 4096
_NUMBERS = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """An open segment of `tokens` tokens in `pages` pages. `summaries` are `[layers, pages, kv_heads, width]` each.

    Its head and summaries were checked when it was opened; a record is checked each time it is read, which costs a
    tenth of computing it and leaves no moment in which a changed byte could be used. `held` is kept as long as it.
    """

    path: Path
    tokens: int
    pages: int
    stored: Format
    summaries: Mapping[str, torch.Tensor]
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
                self.discard()
                raise SegmentDamaged(
                    f"{self.path} is damaged at page {page}, layer {layer}, and was removed. Open the document again: "
                    "what the file held is computed anew"
                )
        return records

    def discard(self) -> None:
        """Remove the file. Where the system keeps a mapped file, it is found damaged again the next time."""
        with suppress(OSError):
            self.path.unlink()


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
                    "check": zlib.crc32(blobs[name]),
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
    summaries: dict[str, torch.Tensor] = {}
    for entry in head["summaries"]:
        dtype = getattr(torch, entry["dtype"])
        count = dtype.itemsize * int(np.prod(entry["shape"]))
        if zlib.crc32(memory[at : at + count]) != entry["check"]:
            raise ValueError(f"its summary {entry['name']} is not what was written")
        bytes_ = whole[at : at + count]
        aligned = bytes_ if at % dtype.itemsize == 0 else bytes_.clone()
        summaries[entry["name"]] = aligned.view(dtype).view(entry["shape"])
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
