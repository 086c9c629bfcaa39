"""A reader's desk: a real library of small texts, a scripted model, and the rows and checkpoints of its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from longleaf.agents.reader import Answer, Ask, Deps, ReaderEvent
from longleaf.agents.run import resume, start
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Request
from longleaf.memory.checkpoints import open_checkpointer
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.records import ChunkRecord, DocumentRecord
from longleaf.memory.runs import Runs
from longleaf.memory.templates import Templates
from longleaf.memory.vectors import Vectors
from longleaf.memory.versions import Versions
from longleaf.memory.words import Words
from longleaf.retrieval.chunk import ChunkPlan
from longleaf.retrieval.embedding import HashedWords
from longleaf.retrieval.index import Index
from longleaf.retrieval.parsers import Parsed
from longleaf.retrieval.search import Search
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Page, Text

Reply = Callable[[Request], str]


@dataclass
class Desk:
    """What a run needs, with short ways to say it."""

    deps: Deps
    index: Index
    database: Database
    checkpointer: Any
    events: list[ReaderEvent] = field(default_factory=list)

    def add(self, characters: str, name: str = "text.txt") -> DocumentRecord:
        data = characters.encode()
        text = Text(characters, (Page(1, 0, len(characters)),))
        digest = hashlib.sha256(data).hexdigest()
        return self.index.add(Parsed(text, "text/plain", "text", "1", digest, len(data)), name)

    def chunks(self) -> list[ChunkRecord]:
        """The chunks of all documents, in order."""
        documents = self.deps.documents
        return [chunk for document in documents.list() for chunk in documents.chunks(document.id)]

    def with_engine(self, engine: ScriptedEngine) -> Desk:
        parts = self.deps
        deps = Deps(
            engine,
            parts.search,
            parts.shelf,
            parts.documents,
            parts.runs,
            parts.versions,
            templates=Templates(self.database),
        )
        return Desk(deps, self.index, self.database, self.checkpointer)

    def stream(self, question: str | Ask) -> Iterator[ReaderEvent | Answer]:
        ask = Ask(question, reader="retrieve") if isinstance(question, str) else question
        return start(ask, self.deps, self.checkpointer)

    def ask(self, question: str | Ask) -> Answer:
        return self._last(self.stream(question))

    def resume(self, run_id: str) -> Answer:
        return self._last(resume(run_id, self.deps, self.checkpointer))

    def _last(self, events: Iterator[ReaderEvent | Answer]) -> Answer:
        self.events = []
        *before, answer = events
        assert isinstance(answer, Answer)
        assert not any(isinstance(event, Answer) for event in before)
        self.events = before
        return answer


@contextmanager
def open_desk(folder: Path) -> Iterator[Desk]:
    """A desk whose model says nothing; `with_engine` gives it another."""
    embedder = HashedWords()
    with (
        Database.open(folder / "longleaf.db") as database,
        Vectors.open(folder / "chroma", embedder.fingerprint, embedder.dimensions) as vectors,
        open_checkpointer(database) as checkpointer,
    ):
        documents = Documents(database)
        shelf = Shelf(documents)
        search = Search(Words(database), vectors, shelf, embedder)
        deps = Deps(ScriptedEngine([""]), search, shelf, documents, Runs(database), Versions(database))
        index = Index(documents, vectors, shelf, embedder, ChunkPlan(40, 0, 10))
        yield Desk(deps, index, database, checkpointer)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as opened:
        yield opened
