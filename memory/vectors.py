"""`Vectors`: the vector index, a Chroma collection in the library's folder or on a Chroma server.

It holds nothing that SQL and the embedder could not make again. One process may own an embedded Chroma:
hold the library's `WriterLock` while it is open.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from longleaf.memory.errors import DatabaseUnusable, IndexStale
from longleaf.memory.marker import OpenMarker

COLLECTION = "chunks"
FACTS = "facts"

# A filter that leaves this few chunks: compare them one by one, exactly. HNSW costs the same and may miss
# some.
EXACT_UP_TO = 1000

# A filter that leaves more: look for at least this many and keep the best. Under a filter HNSW loses its
# way when the query's neighbourhood is filtered out; recall@10 was 0.86 to 0.99 asking for 10 and 0.997 or
# more asking for 800, at the same speed (docs/memory.md).
FILTERED_AT_LEAST = 800

# Ids a request names at once; Chroma looks them up in SQLite, which bounds the values of a statement.
IDS_AT_ONCE = 1000

# What Chroma says when a process was killed while it wrote HNSW's files, which it does not do atomically.
DAMAGED = "hnsw"

REBUILD = "Make it again with `longleaf index --rebuild`."

Floats = NDArray[np.float32]

logger = logging.getLogger(__name__)


class Vectors:
    """Vectors of chunks by chunk id, searched by cosine. Made by `Vectors.open`."""

    def __init__(
        self,
        client: Any,
        fingerprint: str,
        dimensions: int,
        settings: dict[str, Any],
        marker: OpenMarker | None,
        name: str = COLLECTION,
    ) -> None:
        self._client = client
        self._name = name
        self._marker = marker
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._settings = settings
        self._batch = int(client.get_max_batch_size())
        self._collection: Any = None

    @classmethod
    def open(
        cls,
        target: Path | str,
        fingerprint: str,
        dimensions: int,
        *,
        ef_search: int = 400,
        ef_construction: int = 200,
        m: int = 32,
        rebuild: bool = False,
    ) -> Vectors:
        """Open the index, or make an empty one.

        `target` is a folder or the URL of a Chroma server (`http://host:port`). `fingerprint` names the
        embedder that made the vectors and makes those they are searched by. With `rebuild`, an index of
        another embedder is emptied. An index in a folder that a killed process left unreadable is emptied in
        any case, with a warning; `reconcile` then names all chunks as missing. HNSW's `ef_construction` and
        `m` count only when the index is made. Raises `IndexStale` where the index was made by another
        embedder or cannot be read, `DatabaseUnusable` where a server cannot be reached.
        """
        settings = {
            "space": "cosine",
            "ef_search": ef_search,
            "ef_construction": ef_construction,
            "max_neighbors": m,
        }
        marker = None if _is_url(target) else OpenMarker(Path(target))
        if marker is not None:
            _drop_unreadable(marker)
        client = _client(target)
        try:
            vectors = cls(client, fingerprint, dimensions, settings, marker=marker)
            vectors._attach(rebuild=rebuild)
            if marker is not None:
                marker.set()
        except BaseException:
            client.close()
            raise
        return vectors

    def beside(self, name: str) -> Vectors:
        """Another collection of the same index, made where it is missing; this one's `close` closes it too.

        It is a cache that whoever asks for it fills again: where another embedder made it, it is emptied.
        """
        other = Vectors(self._client, self._fingerprint, self._dimensions, self._settings, self._marker, name)
        other._attach(rebuild=True)
        return other

    def add(
        self, chunk_ids: Sequence[str], vectors: Floats, document_ids: Sequence[str], text_ids: Sequence[str]
    ) -> None:
        """Write vectors `[n, dimensions]`, scaled to length 1; those of ids that are there are replaced.

        Raises `ValueError` where the shapes do not fit, an id is there twice or a number is not finite.
        """
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if rows.shape != (len(chunk_ids), self._dimensions):
            raise ValueError(f"vectors are {rows.shape}, not {(len(chunk_ids), self._dimensions)}")
        if not np.isfinite(rows).all():
            raise ValueError("a vector holds a number that is not finite")
        if len(set(chunk_ids)) != len(chunk_ids):
            raise ValueError("a chunk is named twice")
        if not len(chunk_ids) == len(document_ids) == len(text_ids):
            raise ValueError(f"{len(chunk_ids)} chunks, {len(document_ids)} documents, {len(text_ids)} texts")
        # Of length 1, so that an index can be checked after a kill. A zero vector stays one.
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        for start in range(0, len(chunk_ids), self._batch):
            part = slice(start, start + self._batch)
            self._collection.upsert(
                ids=list(chunk_ids[part]),
                embeddings=rows[part],
                metadatas=[
                    {"document_id": document_id, "text_id": text_id}
                    for document_id, text_id in zip(document_ids[part], text_ids[part], strict=True)
                ],
            )

    def search(self, vector: Floats, document_ids: Sequence[str] | None, k: int) -> list[tuple[str, float]]:
        """The `k` nearest chunks, best first, as (chunk id, cosine in [-1, 1]).

        `document_ids` None searches all documents, an empty sequence none.
        """
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(-1)
        if query.shape != (self._dimensions,):
            raise ValueError(f"the vector has {query.shape[0]} dimensions, the index {self._dimensions}")
        if k < 1 or (document_ids is not None and not document_ids):
            return []
        if document_ids is None:
            return self._nearest(query, None, k)
        where = _where(document_ids)
        few = self._collection.get(where=where, limit=EXACT_UP_TO + 1, include=[])["ids"]
        if len(few) <= EXACT_UP_TO:
            return _exact(query, few, self.vectors(few), k)
        return self._nearest(query, where, k)

    def vectors(self, chunk_ids: Sequence[str]) -> Floats:
        """The vectors `[n, dimensions]` of these chunks, in their order, of length 1.

        Raises `IndexStale` where the index lacks one.
        """
        found: dict[str, Any] = {}
        for some in _batches(chunk_ids):
            part = self._collection.get(ids=some, include=["embeddings"])
            found.update(zip(part["ids"], part["embeddings"], strict=True))
        lacking = [chunk_id for chunk_id in chunk_ids if chunk_id not in found]
        if lacking:
            raise IndexStale(f"The vector index lacks {len(lacking)} chunks, {lacking[0]} among them. {REBUILD}")
        if not chunk_ids:
            return np.empty((0, self._dimensions), dtype=np.float32)
        return np.asarray([found[chunk_id] for chunk_id in chunk_ids], dtype=np.float32)

    def ids(self, document_id: str | None = None) -> set[str]:
        """Ids of all chunks in the index, or of one document's."""
        where = None if document_id is None else _where([document_id])
        return set(self._collection.get(where=where, include=[])["ids"])

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Drop these chunks; ids that are not there are passed over."""
        for some in _batches(chunk_ids):
            self._collection.delete(ids=some)

    def remove_text(self, text_id: str) -> None:
        """Drop all chunks of a text version."""
        self.remove(self._collection.get(where={"text_id": text_id}, include=[])["ids"])

    def count(self) -> int:
        """How many chunks the index holds."""
        return int(self._collection.count())

    def reset(self) -> None:
        """Empty the index and mark it as this embedder's."""
        self._client.delete_collection(self._name)
        self._attach(rebuild=False)

    def close(self) -> None:
        """Let go of the files or the connection. Safe to call twice.

        Where nobody does, the next process to open the index reads it all, as after a kill.
        """
        self._client.close()
        if self._marker is not None:
            self._marker.clear()

    def __enter__(self) -> Vectors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attach(self, *, rebuild: bool) -> None:
        from chromadb.errors import NotFoundError

        try:
            self._collection = self._client.get_collection(self._name, embedding_function=None)
        except NotFoundError:
            self._collection = self._client.create_collection(
                self._name,
                configuration={"hnsw": self._settings},
                metadata={"fingerprint": self._fingerprint, "dimensions": self._dimensions},
                embedding_function=None,
            )
            return
        marks = self._collection.metadata or {}
        if (marks.get("fingerprint"), marks.get("dimensions")) == (self._fingerprint, self._dimensions):
            self._mend(rebuild=rebuild)
            self._widen()
            return
        if not rebuild:
            raise IndexStale(
                f"The vector index was made by the embedder {marks.get('fingerprint')} "
                f"({marks.get('dimensions')} dimensions); the library now uses {self._fingerprint} "
                f"({self._dimensions}). {REBUILD}"
            )
        self.reset()

    def _widen(self) -> None:
        """Search as wide as is asked now, not as wide as when the index was made."""
        wanted = self._settings["ef_search"]
        if self._collection.configuration["hnsw"]["ef_search"] != wanted:
            self._collection.modify(configuration={"hnsw": {"ef_search": wanted}})

    def _mend(self, *, rebuild: bool) -> None:
        """Empty the index where its files were cut short."""
        from chromadb.errors import InternalError

        try:
            self._collection.count()  # replays what was written last, and so finds out
        except InternalError as error:
            if DAMAGED not in str(error) or (self._marker is None and not rebuild):
                raise IndexStale(f"The vector index cannot be read ({error}). {REBUILD}") from error
            logger.warning("the vector index was cut short while it was written and is emptied: %s", error)
            self.reset()

    def _nearest(self, query: Floats, where: dict[str, Any] | None, k: int) -> list[tuple[str, float]]:
        size = self.count()
        if size == 0:
            return []
        wanted = k if where is None else max(k, FILTERED_AT_LEAST)
        found = self._collection.query(
            query_embeddings=query[None, :], n_results=min(wanted, size), where=where, include=["distances"]
        )
        pairs = list(zip(found["ids"][0], found["distances"][0], strict=True))
        return [(chunk_id, 1.0 - float(distance)) for chunk_id, distance in pairs[:k]]


def _client(target: Path | str) -> Any:
    # Chroma logs what it does at every step, and posts usage unless told not to.
    logging.getLogger("chromadb").setLevel(logging.ERROR)
    import chromadb
    from chromadb.config import Settings
    from chromadb.errors import ChromaError

    settings = Settings(anonymized_telemetry=False)
    if _is_url(target):
        address = urlsplit(str(target))
        secure = address.scheme == "https"
        try:
            return chromadb.HttpClient(
                host=address.hostname or "localhost",
                port=address.port or (443 if secure else 8000),
                ssl=secure,
                settings=settings,
            )
        except (ValueError, ChromaError) as error:
            raise DatabaseUnusable(
                f"The Chroma server at {target} cannot be used ({error}). "
                "Check that it runs and that the setting `vectors` is right."
            ) from error
    try:
        return chromadb.PersistentClient(path=str(target), settings=settings)
    except (ValueError, ChromaError) as error:
        raise IndexStale(
            f"The vector index in {target} cannot be read ({error}). Move that folder away. {REBUILD}"
        ) from error


def _drop_unreadable(marker: OpenMarker) -> None:
    """Remove an index that a killed process left and that cannot be read."""
    if marker.left_over() and not marker.readable():
        logger.warning("the vector index in %s was cut short while it was written; it is emptied", marker.folder)
        shutil.rmtree(marker.folder)


def _is_url(target: Path | str) -> bool:
    return isinstance(target, str) and target.startswith(("http://", "https://"))


def _where(document_ids: Sequence[str]) -> dict[str, Any]:
    return {"document_id": {"$in": list(document_ids)}}


def _batches(chunk_ids: Sequence[str]) -> Iterator[list[str]]:
    once = list(dict.fromkeys(chunk_ids))
    for start in range(0, len(once), IDS_AT_ONCE):
        yield once[start : start + IDS_AT_ONCE]


def _exact(query: Floats, chunk_ids: Sequence[str], vectors: Floats, k: int) -> list[tuple[str, float]]:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    scores = vectors @ query / np.maximum(lengths, np.finfo(np.float32).tiny)
    best = np.argsort(-scores, kind="stable")[:k]
    return [(chunk_ids[place], float(scores[place])) for place in best]
