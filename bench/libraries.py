"""Libraries of one document each, for items: filled once, opened by every reader that is tried on the item."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from items import Item

from longleaf import Library
from longleaf.agents.reader import Deps
from longleaf.engine.contract import Engine
from longleaf.retrieval.embedding import Embedder, Vectors
from longleaf.retrieval.parsers import Parsed
from longleaf.retrieval.text import Heading, Page, Text

_KEPT_VECTORS = 300_000


class CachedEmbedder:
    """An embedder that keeps the vectors of texts it has seen, for use by several threads.

    Documents of a bench share their filler, which is most of them.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.asked = self.made = 0

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def count(self, texts: Sequence[str]) -> list[int]:
        with self._lock:  # the tokenizer keeps whether it cuts: not to be changed by another thread meanwhile
            return self._embedder.count(texts)

    def embed(self, texts: Sequence[str], on_progress: Any = None) -> Vectors:
        keys = [hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest() for text in texts]
        with self._lock:
            new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            found |= dict(zip(new, self._embedder.embed(list(new.values())), strict=True)) if new else {}
            self._vectors.update((key, found[key]) for key in new)
            self.asked, self.made = self.asked + len(texts), self.made + len(new)
            while len(self._vectors) > _KEPT_VECTORS:
                self._vectors.popitem(last=False)
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        return np.stack([found[key] for key in keys])


@dataclass(frozen=True, slots=True)
class Place:
    """An open library and the document in it."""

    library: Library
    document_id: str
    engine: Engine

    def deps(self) -> Deps:
        """What a run needs, with a thread of its own to read in: several runs may share a library."""
        shared: Deps = self.library._deps
        return replace(shared, engine=self.engine, worker=ThreadPoolExecutor(1, "bench-reader"))

    @property
    def checkpointer(self) -> Any:
        return self.library._checkpointer


class Libraries:
    """Opens libraries by item. `kept` is a folder where filled ones stay for other processes and later runs."""

    def __init__(self, engine: Engine, embedder: Embedder, kept: Path | None = None) -> None:
        self.engine = engine
        self._embedder = embedder
        self._kept = kept
        self._open: dict[str, tuple[ExitStack, Place]] = {}
        self._users: dict[str, int] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def use(self, item: Item) -> Iterator[Place]:
        """The library of an item, open as long as somebody uses it."""
        key = item.key
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1
            lock = self._locks.setdefault(key, threading.Lock())
        try:
            with lock:
                if key not in self._open:
                    self._open[key] = self._opened(item)
            yield self._open[key][1]
        finally:
            with self._lock:
                self._users[key] -= 1
                stack = self._open.pop(key)[0] if self._users[key] == 0 and key in self._open else None
            if stack:
                stack.close()

    def prepare(self, item: Item) -> None:
        """Fill the library of an item in the kept folder, where it is not there yet."""
        if self._kept and not (self._kept / self._name(item)).exists():
            self._opened(item)[0].close()

    def _opened(self, item: Item) -> tuple[ExitStack, Place]:
        stack = ExitStack()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))) / "library"
        kept = self._kept / self._name(item) if self._kept else None
        if kept and kept.exists():
            shutil.copytree(kept, folder)
            library = stack.enter_context(self._library(folder))
            return stack, Place(library, library.list()[0].id, self.engine)
        library = self._library(folder)
        document_id = add(library, item)
        if kept:
            library.close()
            _keep(folder, kept)
            library = self._library(folder)
        stack.enter_context(library)
        return stack, Place(library, document_id, self.engine)

    def _name(self, item: Item) -> str:
        return f"{item.key}-{hashlib.sha256(self._embedder.fingerprint.encode()).hexdigest()[:8]}"

    def _library(self, folder: Path) -> Library:
        library = Library.open(folder)
        # Both are made when first needed, from the settings; here they are shared by many libraries.
        library.__dict__.update(engine=self.engine, embedder=self._embedder)
        return library


def add(library: Library, item: Item) -> str:
    """Put an item's document into a library as a parser would hand it over; returns its id."""
    data = item.text.encode()
    headings = tuple(Heading(start, end, 2) for start, end in item.headings)
    text = Text(item.text, (Page(1, 0, len(item.text)),), headings)
    parsed = Parsed(text, "text/plain", "text", "bench", hashlib.sha256(data).hexdigest(), len(data))
    record = library._index.add(parsed, f"{item.key}.txt")
    return str(record.id)


def _keep(folder: Path, kept: Path) -> None:
    """Copy a filled library to its place by one rename; another process may have been first."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=kept.parent, prefix=".new-"))
    shutil.copytree(folder, scratch / "library")
    try:
        (scratch / "library").rename(kept)
    except OSError:
        if not kept.exists():
            raise
    shutil.rmtree(scratch, ignore_errors=True)
