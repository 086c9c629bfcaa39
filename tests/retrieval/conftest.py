"""A real index in a folder of its own: SQLite, Chroma and hashed words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.vectors import Vectors
from longleaf.memory.words import Words
from longleaf.retrieval.chunk import ChunkPlan
from longleaf.retrieval.embedding import Embedder, HashedWords
from longleaf.retrieval.index import Index
from longleaf.retrieval.parsers import Parsed
from longleaf.retrieval.search import Search, SearchPlan
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Page, Text


@dataclass
class Stack:
    """All that an index is made of."""

    documents: Documents
    vectors: Vectors
    words: Words
    shelf: Shelf
    embedder: Embedder
    index: Index

    def search(self, **plan: float) -> Search:
        return Search(self.words, self.vectors, self.shelf, self.embedder, SearchPlan(**plan))

    def consistent(self) -> bool:
        return self.vectors.ids() == self.documents.chunk_ids() and not self.documents.unfinished()


def parsed(characters: str, *, version: str = "1", data: bytes | None = None, title: str = "") -> Parsed:
    """A text as a parser would give it."""
    data = characters.encode() if data is None else data
    text = Text(characters, (Page(1, 0, len(characters)),), title=title)
    return Parsed(text, "text/plain", "text", version, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def parse_text() -> Callable[..., Parsed]:
    return parsed


@pytest.fixture
def open_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Opens the same folder again and again; what was open is closed first."""
    opened: list[tuple[Database, Vectors]] = []

    def close() -> None:
        while opened:
            database, vectors = opened.pop()
            vectors.close()
            database.close()

    def open_(embedder: Embedder | None = None, plan: ChunkPlan | None = None, *, rebuild: bool = False) -> Stack:
        close()
        embedder = embedder or HashedWords()
        database = Database.open(tmp_path / "longleaf.db")
        vectors = Vectors.open(tmp_path / "chroma", embedder.fingerprint, embedder.dimensions, rebuild=rebuild)
        opened.append((database, vectors))
        documents = Documents(database)
        shelf = Shelf(documents)
        index = Index(documents, vectors, shelf, embedder, plan or ChunkPlan(30, 6, 8))
        return Stack(documents, vectors, Words(database), shelf, embedder, index)

    yield open_
    close()


@pytest.fixture
def stack(open_stack: Callable[..., Stack]) -> Stack:
    return open_stack()
