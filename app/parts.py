"""`Parts`: what a library is made of, each part opened when it is first needed and closed with the library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from longleaf.engine.contract import Engine, Keeping
from longleaf.engine.store import ModelStore
from longleaf.kept import Kept
from longleaf.memory.checkpoints import open_checkpointer
from longleaf.memory.conversations import Conversations
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.facts import Facts
from longleaf.memory.folder import LibraryFolder
from longleaf.memory.kv_assets import KvAssets
from longleaf.memory.lock import WriterLock
from longleaf.memory.questions import Questions
from longleaf.memory.runs import Runs
from longleaf.memory.versions import Versions
from longleaf.memory.words import Words
from longleaf.retrieval.shelf import Shelf
from longleaf.settings import Settings

if TYPE_CHECKING:
    from longleaf.agents.recall import Recall
    from longleaf.memory.vectors import Vectors
    from longleaf.retrieval.embedding import Embedder
    from longleaf.retrieval.index import Index
    from longleaf.retrieval.search import Search

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, how much is done, of how much); 0 of 0 where that is not known."""

T = TypeVar("T")


class part(Generic[T]):
    """A part that is made when it is first asked for, and once, however many threads ask.

    `functools.cached_property` has no lock from Python 3.12 on, and before that one for all libraries together.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[Parts], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, parts: None, owner: type[Parts]) -> Self: ...

    @overload
    def __get__(self, parts: Parts, owner: type[Parts]) -> T: ...

    def __get__(self, parts: Parts | None, owner: type[Parts]) -> Self | T:
        if parts is None:
            return self
        with parts._making:
            if self._name not in parts.__dict__:
                parts.__dict__[self._name] = self._make(parts)
            made: T = parts.__dict__[self._name]
            return made


class Parts:
    """Models, database, vectors and what stands on them. Listing needs the database alone; nothing else is loaded."""

    def __init__(self, settings: Settings, on_progress: OnProgress | None = None) -> None:
        self.settings = settings
        self.folder = LibraryFolder(settings.library)
        self._report = on_progress or (lambda what, done, total: None)
        self._stack = ExitStack()
        self._making = RLock()

    @part
    def models(self) -> ModelStore:
        """The models this library holds."""
        return ModelStore(self.folder.models)

    @part
    def engine(self) -> Engine:
        """The reading model, loaded on first use. Raises `ModelNotFound`."""
        from longleaf.engine.backends.open import open_engine

        model = self.settings.model
        engine = open_engine(
            model.name,
            self.models,
            adapter=model.adapter,
            base_url=model.base_url,
            api_key=model.api_key.get_secret_value() if model.api_key else None,
            window=model.window,
            dtype=model.dtype,
            device=model.device,
            on_progress=lambda line: self._report(line, 0, 0),
        )
        self._stack.callback(engine.close)
        return engine

    @part
    def database(self) -> Database:
        if self.settings.database is None and not self.folder.exists():
            self.folder.create()
        database = Database.open(self.settings.database or self.folder.database_file)
        self._stack.callback(database.close)
        return database

    @part
    def documents(self) -> Documents:
        return Documents(self.database)

    @part
    def _runs(self) -> Runs:
        return Runs(self.database)

    @part
    def _versions(self) -> Versions:
        return Versions(self.database)

    @part
    def _conversations(self) -> Conversations:
        return Conversations(self.database)

    @part
    def _facts(self) -> Facts:
        return Facts(self.database)

    @part
    def _kept(self) -> Kept:
        kv = self.settings.kv
        return Kept(Keeping(self.folder.kv, int(kv.size_limit * 1e9), kv.format), KvAssets(self.database))

    @part
    def _questions(self) -> Questions:
        return Questions(self.database)

    @part
    def _recall(self) -> Recall:
        from longleaf.agents.recall import Recall
        from longleaf.memory.vectors import FACTS

        vectors = self._vectors.beside(FACTS)
        recall = Recall(self._facts, self._questions, self.documents, vectors, self.embedder)
        recall.heal()
        return recall

    @part
    def _shelf(self) -> Shelf:
        return Shelf(self.documents)

    @part
    def embedder(self) -> Embedder:
        """The sentence model of the index, loaded on first use. Raises `ModelNotFound`."""
        from longleaf.retrieval.embedding import HashedWords, SentenceEmbedder

        name = self.settings.embedder
        if name == "hashed-words":
            return HashedWords()
        folder = self.models.get(name, lambda line: self._report(line, 0, 0))
        return SentenceEmbedder(folder, name=name, device=self.settings.model.device)

    @part
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

    @part
    def _index(self) -> Index:
        from longleaf.retrieval.chunk import ChunkPlan
        from longleaf.retrieval.index import Index

        chunk = self.settings.chunk
        plan = ChunkPlan(chunk.tokens, chunk.overlap, chunk.least)
        index = Index(self.documents, self._vectors, self._shelf, self.embedder, plan)
        index.repair(self._report)
        return index

    @part
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

    @part
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

    @part
    def _checkpointer(self) -> Any:
        return self._stack.enter_context(open_checkpointer(self.database))
