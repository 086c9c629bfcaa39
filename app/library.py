"""`Library`: documents in, answers out. The whole SDK is this class and the values it gives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from longleaf.agents.reader import Answer, Ask, Budget, Deps, ReaderEvent
from longleaf.engine.contract import Engine
from longleaf.engine.store import ModelStore
from longleaf.memory.checkpoints import open_checkpointer
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.folder import LibraryFolder
from longleaf.memory.lock import WriterLock
from longleaf.memory.records import ChunkRecord, DocumentRecord, RunRecord, StepRecord
from longleaf.memory.runs import Runs
from longleaf.memory.words import Words
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Text
from longleaf.settings import Settings, load

if TYPE_CHECKING:
    from longleaf.memory.vectors import Vectors
    from longleaf.retrieval.embedding import Embedder
    from longleaf.retrieval.index import Index
    from longleaf.retrieval.search import Search

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, how much is done, of how much); 0 of 0 where that is not known."""

AnswerEvent = ReaderEvent | Answer


class Library:
    """A folder of documents that can be asked. Use it as a context manager, or `close` it.

    Listing and showing need nothing but the database. The first `add` or `ask` takes the writer lock, since one process
    at a time may own the embedded vector index: a second one gets `LibraryBusy` at once. Models are loaded when first
    needed and fetched when missing.
    """

    def __init__(self, settings: Settings, on_progress: OnProgress | None = None) -> None:
        self.settings = settings
        self.folder = LibraryFolder(settings.library)
        self._report = on_progress or (lambda what, done, total: None)
        self._stack = ExitStack()
        self._asking = threading.Lock()
        self._asker: int | None = None

    @classmethod
    def open(
        cls,
        path: Path | str | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Library:
        """Open the library in `path` (default: `LONGLEAF_LIBRARY`, else `~/.longleaf`).

        It is made when first written to. `overrides` are settings that win over `library.toml` and the environment, as
        a nested mapping. Raises `SettingsInvalid`.
        """
        return cls(load(path, overrides), on_progress)

    # Documents

    def add(self, path: Path | str, *, ocr: bool = False, again: bool = False) -> DocumentRecord:
        """Read a file into the library. Bytes that are there already are not read twice, unless `again`.

        Raises `DocumentError` where the file cannot be read; the library is then unchanged.
        """
        from longleaf.retrieval.parsers import parse

        file = _expanded(path)
        if not again and file.is_file() and self.folder.exists():
            known = self.documents.find(_sha256(file))
            if known is not None:
                return known
        self._report("reading", 0, 0)
        parsed = parse(file, on_page=lambda done, total: self._report("reading", done, total), ocr=ocr)
        return self._index.add(parsed, os.fsencode(file.name).decode(errors="replace"), self._report)

    def list(self) -> list[DocumentRecord]:
        """All documents, oldest first; none where there is no library yet."""
        return self.documents.list() if self.folder.exists() or self.settings.database else []

    def get(self, document: str) -> DocumentRecord:
        """A document by id or the beginning of one. Raises `DocumentMissing`."""
        return self.documents.get(document)

    def text(self, document: str) -> Text:
        """The canonical text of a document. Raises `DocumentMissing`."""
        return self._shelf.text(self.get(document).id)

    def chunks(self, document: str) -> Sequence[ChunkRecord]:
        """The chunks of a document, in order. Raises `DocumentMissing`."""
        return self.documents.chunks(self.get(document).id)

    def remove(self, document: str) -> DocumentRecord:
        """Take a document out and return what it was. Raises `DocumentMissing`."""
        record = self.get(document)
        self._index.remove(record.id)
        return record

    def rebuild(self) -> int:
        """Make chunks and vectors of all documents anew, as after a change of embedder; returns how many."""
        if "_vectors" not in self.__dict__:  # open already, it is of this embedder, and others hold on to it
            self._open_vectors(rebuild=True)
        return self._index.rebuild(self._report)

    # Questions

    def ask(self, question: str, documents: Sequence[str] = (), *, reader: str | None = None) -> Answer:
        """Answer a question from the given documents (ids or beginnings of ids), or from all."""
        return _last(self.stream(question, documents, reader=reader))

    def stream(
        self, question: str, documents: Sequence[str] = (), *, reader: str | None = None
    ) -> Iterator[AnswerEvent]:
        """As `ask`, yielding what is read, quoted and written as it happens, and the `Answer` last.

        Closing the iterator stops the run; `resume` goes on with it. One question is answered at a time: another waits
        for it, and where it would wait for itself, asked from the loop over an open stream, `RuntimeError` is raised.
        """
        yield from self._stream(question, documents, reader, owner=threading.get_ident())

    def _stream(
        self, question: str, documents: Sequence[str], reader: str | None, *, owner: int | None
    ) -> Iterator[AnswerEvent]:
        from longleaf.agents.run import check, start

        answer = self.settings.answer
        budget = Budget(self.settings.search.passages, answer.quotes, answer.tokens)
        chosen = tuple(self.get(document).id for document in documents)
        ask = Ask(question, chosen, reader or answer.reader, budget, answer.seed)
        check(ask, self.documents)
        yield from self._exclusively(lambda deps, checkpointer: start(ask, deps, checkpointer), owner)

    async def ask_async(self, question: str, documents: Sequence[str] = (), *, reader: str | None = None) -> Answer:
        """As `ask`, without blocking the event loop."""
        return await asyncio.to_thread(self.ask, question, documents, reader=reader)

    async def stream_async(
        self, question: str, documents: Sequence[str] = (), *, reader: str | None = None
    ) -> AsyncIterator[AnswerEvent]:
        """As `stream`, without blocking the event loop."""
        events = self._stream(question, documents, reader, owner=None)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            await asyncio.to_thread(_close, events)

    def runs(self, limit: int = 50) -> Sequence[RunRecord]:
        """The newest runs, newest first."""
        return self._runs.list(limit) if self.folder.exists() or self.settings.database else []

    def run(self, run: str) -> tuple[RunRecord, Sequence[StepRecord]]:
        """A run by id or the beginning of one, and its steps. Raises `RunMissing`."""
        record = self._runs.get(run)
        return record, self._runs.steps(record.id)

    def resume(self, run: str) -> Iterator[AnswerEvent]:
        """Go on with a run that was stopped. Raises `RunMissing` and `RunEnded`."""
        from longleaf.agents.run import resume, stopped

        stopped(run, self._runs)
        yield from self._exclusively(lambda deps, checkpointer: resume(run, deps, checkpointer), threading.get_ident())

    # Models

    @cached_property
    def models(self) -> ModelStore:
        """The models this library holds."""
        return ModelStore(self.folder.models)

    @cached_property
    def engine(self) -> Engine:
        """The reading model, loaded on first use. Raises `ModelNotFound`."""
        from longleaf.engine.backends.open import open_engine

        model = self.settings.model
        engine = open_engine(
            model.name,
            self.models,
            base_url=model.base_url,
            api_key=model.api_key.get_secret_value() if model.api_key else None,
            window=model.window,
            dtype=model.dtype,
            device=model.device,
            on_progress=lambda line: self._report(line, 0, 0),
        )
        self._stack.callback(engine.close)
        return engine

    def close(self) -> None:
        """Free models, connections and the writer lock. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Parts, each opened when first needed

    @cached_property
    def database(self) -> Database:
        if self.settings.database is None and not self.folder.exists():
            self.folder.create()
        database = Database.open(self.settings.database or self.folder.database_file)
        self._stack.callback(database.close)
        return database

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.database)

    @cached_property
    def _runs(self) -> Runs:
        return Runs(self.database)

    @cached_property
    def _shelf(self) -> Shelf:
        return Shelf(self.documents)

    @cached_property
    def embedder(self) -> Embedder:
        """The sentence model of the index, loaded on first use. Raises `ModelNotFound`."""
        from longleaf.retrieval.embedding import HashedWords, SentenceEmbedder

        name = self.settings.embedder
        if name == "hashed-words":
            return HashedWords()
        folder = self.models.get(name, lambda line: self._report(line, 0, 0))
        return SentenceEmbedder(folder, name=name, device=self.settings.model.device)

    @cached_property
    def _vectors(self) -> Vectors:
        return self._open_vectors(rebuild=False)

    def _open_vectors(self, *, rebuild: bool) -> Vectors:
        from longleaf.memory.vectors import Vectors

        self._lock()
        vectors = Vectors.open(
            self.settings.chroma or self.folder.chroma,
            self.embedder.fingerprint,
            self.embedder.dimensions,
            ef_search=self.settings.search.ef_search,
            rebuild=rebuild,
        )
        self._stack.callback(vectors.close)
        self.__dict__["_vectors"] = vectors
        return vectors

    @cached_property
    def _index(self) -> Index:
        from longleaf.retrieval.chunk import ChunkPlan
        from longleaf.retrieval.index import Index

        chunk = self.settings.chunk
        plan = ChunkPlan(chunk.tokens, chunk.overlap, chunk.least)
        index = Index(self.documents, self._vectors, self._shelf, self.embedder, plan)
        index.repair(self._report)
        return index

    @cached_property
    def search(self) -> Search:
        """Search without a model: `library.search.find(question)`."""
        from longleaf.retrieval.search import Search, SearchPlan

        plan = SearchPlan(
            self.settings.search.candidates,
            self.settings.search.reread,
            self.settings.search.passages,
            self.settings.search.relevance,
        )
        _ = self._index  # repaired, if a crash left it out of step
        return Search(Words(self.database), self._vectors, self._shelf, self.embedder, plan)

    @cached_property
    def _writer(self) -> WriterLock:
        lock = WriterLock(self.folder)
        lock.acquire()
        self._stack.callback(lock.release)
        self._runs.interrupt_running()
        return lock

    def _lock(self) -> None:
        """Own the embedded index. A library that is all on servers has no need to."""
        if self.settings.chroma is None or self.settings.database is None:
            _ = self._writer

    @cached_property
    def _checkpointer(self) -> Any:
        return self._stack.enter_context(open_checkpointer(self.database))

    @cached_property
    def _deps(self) -> Deps:
        deps = Deps(self.engine, self.search, self._shelf, self.documents, self._runs)
        self._stack.callback(deps.worker.shutdown)
        return deps

    def _exclusively(
        self, run: Callable[[Deps, Any], Iterator[AnswerEvent]], owner: int | None
    ) -> Iterator[AnswerEvent]:
        if owner is not None and self._asker == owner:
            raise RuntimeError("Finish or close the stream of the last question before asking the next one.")
        with self._asking:
            self._asker = owner
            try:
                yield from run(self._deps, self._checkpointer)
            finally:
                self._asker = None


def _expanded(path: Path | str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~name, and nobody has that name: then it is a file's name
        return Path(path)


def _last(events: Iterator[AnswerEvent]) -> Answer:
    for event in events:
        if isinstance(event, Answer):
            return event
    raise AssertionError("a run ended without an answer")


def _close(events: Iterator[AnswerEvent]) -> None:
    close = getattr(events, "close", None)
    if close is not None:
        close()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
