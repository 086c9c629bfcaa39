"""`AssetFolder`: keys and values of documents as files, so that a document read once is open at once tomorrow.

    segments/ab/ab12....kv     pages and summaries of 1,024 tokens, named by the chain of all tokens so far
    documents/TOKENS-FINGERPRINT.json    an asset: its segments in order, and what made them
    leases/                    what living processes hold

Files are written beside their place and moved there by one rename, so a killed process leaves whole files or none.
Documents that begin alike share segments. Several processes may use a folder; a lock is held for moments only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock

from longleaf.engine.errors import FingerprintMismatch, SegmentDamaged
from longleaf.engine.pages.chain import SEGMENT_TOKENS, segment_keys, tokens_digest
from longleaf.engine.pages.disk import KeptSummary, Segment, open_segment, write_segment
from longleaf.engine.pages.fingerprint import Fingerprint
from longleaf.engine.pages.lease import Lease, living
from longleaf.engine.pages.store import PageStore

Summaries = Callable[[range], torch.Tensor]
"""What describes some pages of a sequence, `[layers, pages, kv_heads, width]`; asked for a segment at a time."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A document's kept keys and values. `bytes` counts shared segments in full; `used` is seconds since 1970."""

    name: str
    fingerprint: Fingerprint
    tokens: int
    bytes: int
    used: float
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A sequence of the store with what was kept: the first `tokens` tokens of the document, maybe none or all.

    `summaries` are those that all its segments have, in order: views of the files, to be copied to where they are
    wanted.
    """

    sequence: int
    tokens: int
    summaries: Mapping[str, tuple[KeptSummary, ...]]


class AssetFolder:
    """Kept keys and values under `path`. `limit` is in bytes: what is used longest ago goes when more is saved."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.path = path
        self._limit = limit

    def save(
        self,
        store: PageStore,
        sequence: int,
        tokens: Sequence[int],
        fingerprint: Fingerprint,
        summaries: Mapping[str, Summaries] | None = None,
    ) -> Asset:
        """Keep the first `len(tokens)` tokens of a sequence, in the fingerprint's format.

        Segments that are there are not written
        again. Raises `ValueError` where the sequence is shorter or has other pages than the fingerprint says, and
        `OSError` where the disk is full; nothing then counts as kept.
        """
        if store.length(sequence) < len(tokens) or not tokens:
            raise ValueError(f"{len(tokens)} tokens cannot be kept of a sequence of {store.length(sequence)}")
        if store.shape.page != fingerprint.page:
            raise ValueError(f"the store's pages have {store.shape.page} tokens, the fingerprint's {fingerprint.page}")
        keys = segment_keys(tokens, fingerprint.digest)
        with self._locked():
            lease = Lease(self._leases, keys)
        try:
            for number, key in enumerate(keys):
                if self._segment(key) is None:
                    self._write(store, sequence, number, key, len(tokens), fingerprint, summaries or {}, lease.id)
            name = f"{tokens_digest(tokens)}-{fingerprint.digest}"
            head = {"tokens": len(tokens), "fingerprint": asdict(fingerprint), "keys": keys}
            self._replace(self._document(name), json.dumps(head).encode(), lease.id)
            size = sum(_size(self._file(key)) for key in keys)
        finally:
            lease.release()
        if self._limit is not None:
            self.prune(self._limit, keep=name)
        return Asset(name, fingerprint, len(tokens), size, time.time(), keys)

    def shared_prefix(self, tokens: Sequence[int], fingerprint: Fingerprint) -> int:
        """How many of the first tokens are kept, by this or any other document. Payloads are not checked yet."""
        return sum(segment.tokens for _, segment in self._prefix(segment_keys(tokens, fingerprint.digest), None))

    def open(self, store: PageStore, tokens: Sequence[int], fingerprint: Fingerprint) -> Opened:
        """Begin a sequence with as much of `tokens` as is kept: maps files and reads no more than their heads.

        What is torn counts as not kept. A page or a summary that is found damaged when it is first read raises
        `SegmentDamaged`: drop the sequence and open again. The sequence's files stay while it lives.
        Raises `FingerprintMismatch` where nothing is kept for this fingerprint but these tokens are for another.
        """
        if store.shape.page != fingerprint.page:
            raise ValueError(f"the store's pages have {store.shape.page} tokens, the fingerprint's {fingerprint.page}")
        keys = segment_keys(tokens, fingerprint.digest)
        with self._locked():
            lease = Lease(self._leases, keys)
        segments = [segment for _, segment in self._prefix(keys, lease)]
        digest = tokens_digest(tokens)
        if not segments:
            lease.release()
            kept = [asset.fingerprint for asset in self._assets(f"{digest}-*")]
            if kept and fingerprint not in kept:
                other = kept[0]
                raise FingerprintMismatch(
                    f"these {len(tokens)} tokens are kept for {other.digest[:12]} and are asked for by "
                    f"{fingerprint.digest[:12]}: {fingerprint.difference(other)}. Drop what is kept with "
                    "`longleaf kv drop`, or go back to the settings it was made with"
                )
        mine = self._document(f"{digest}-{fingerprint.digest}")
        with suppress(FileNotFoundError):  # only a part may be kept, by another document
            os.utime(mine)
        available = sum(segment.tokens for segment in segments)
        pages = [(segment, page) for segment in segments for page in range(segment.pages)]
        sequence = store.adopt(pages, available)
        names = set.intersection(*(set(segment.summaries) for segment in segments)) if segments else set()
        parts = {name: tuple(segment.summaries[name] for segment in segments) for name in names}
        return Opened(sequence, available, parts)

    def find(self, tokens: Sequence[int], fingerprint: Fingerprint) -> Asset | None:
        """What is kept under this name; None where nothing is, though a document that begins alike may be."""
        return next(self._assets(f"{tokens_digest(tokens)}-{fingerprint.digest}"), None)

    def list(self) -> list[Asset]:
        """What is kept, used last first."""
        return sorted(self._assets("*"), key=lambda asset: asset.used, reverse=True)

    @property
    def size(self) -> int:
        """Bytes of all segments, each counted once."""
        return sum(self._sizes().values())

    def drop(self, name: str) -> None:
        """Forget a document, and remove what no other needs; what a process has open goes at a later `prune`."""
        with self._locked():
            self._document(name).unlink(missing_ok=True)
        self.prune(None)

    def prune(self, limit: int | None, keep: str | None = None) -> tuple[str, ...]:
        """Remove what nothing names, then the documents used longest ago until `limit` bytes are left.

        Returns the names of the documents that went. A segment that a living process has open, and the document
        `keep`, stay even where that leaves more than `limit`.
        """
        gone: list[str] = []
        with self._locked():
            leases = living(self._leases)
            in_use = frozenset[str]().union(*leases.values())
            assets = sorted(self._assets("*"), key=lambda asset: asset.used)
            sizes = self._sizes()
            names: dict[str, int] = dict.fromkeys(in_use, 1)
            for asset in assets:
                for key in asset.keys:
                    names[key] = names.get(key, 0) + 1
            total = sum(size for key, size in sizes.items() if key in names)
            for asset in assets:
                if limit is None or total <= limit:
                    break
                if asset.name == keep or asset.keys[-1] in in_use:
                    continue
                self._document(asset.name).unlink(missing_ok=True)
                gone.append(asset.name)
                for key in asset.keys:
                    names[key] -= 1
                    if not names[key]:
                        del names[key]
                        total -= sizes.get(key, 0)
            for key in sizes.keys() - names.keys():
                self._file(key).unlink(missing_ok=True)
            for path in self.path.glob("*.tmp"):
                if path.name.split(".")[0] not in leases:
                    path.unlink(missing_ok=True)
        return tuple(gone)

    def _write(
        self,
        store: PageStore,
        sequence: int,
        number: int,
        key: str,
        tokens: int,
        fingerprint: Fingerprint,
        summaries: Mapping[str, Summaries],
        writer: str,
    ) -> None:
        start = number * SEGMENT_TOKENS
        end = min(start + SEGMENT_TOKENS, tokens)
        pages = range(start // fingerprint.page, store.shape.pages(end))
        records = store.records(sequence, pages, end, fingerprint.stored)
        parts = {name: summary(pages).cpu() for name, summary in summaries.items()}
        scratch = self.path / f"{writer}.{key[:8]}.tmp"
        write_segment(scratch, end - start, fingerprint.stored, records, parts)
        self._move(scratch, self._file(key))

    def _prefix(self, keys: Sequence[str], lease: Lease | None) -> Iterator[tuple[str, Segment]]:
        """The segments that are there, up to the first that is not or is damaged."""
        for key in keys:
            segment = self._segment(key, lease)
            if segment is None:
                return
            yield key, segment

    def _segment(self, key: str, lease: Lease | None = None) -> Segment | None:
        try:
            return open_segment(self._file(key), lease)
        except (FileNotFoundError, SegmentDamaged):
            return None

    @property
    def _leases(self) -> Path:
        return self.path / "leases"

    def _file(self, key: str) -> Path:
        return self.path / "segments" / key[:2] / f"{key}.kv"

    def _document(self, name: str) -> Path:
        return self.path / "documents" / f"{name}.json"

    def _sizes(self) -> dict[str, int]:
        return {path.stem: _size(path) for path in (self.path / "segments").glob("*/*.kv")}

    def _assets(self, pattern: str) -> Iterator[Asset]:
        for path in (self.path / "documents").glob(f"{pattern}.json"):
            try:
                head, used = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            except FileNotFoundError:  # another process has dropped it meanwhile
                continue
            keys = tuple(head["keys"])
            size = sum(_size(self._file(key)) for key in keys)
            yield Asset(path.stem, Fingerprint(**head["fingerprint"]), head["tokens"], size, used, keys)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    def _replace(self, path: Path, content: bytes, writer: str) -> None:
        scratch = self.path / f"{writer}.{time.monotonic_ns()}.tmp"
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._move(scratch, path)

    def _move(self, scratch: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(path)
        if os.name != "nt":  # the rename itself, too, must outlive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _size(path: Path) -> int:
    """Bytes of a file, 0 where it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
