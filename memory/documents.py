"""`Documents`: the documents of a library, their texts and chunks."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from longleaf.engine.errors import LongleafError
from longleaf.memory.database import Database
from longleaf.memory.errors import DocumentMissing
from longleaf.memory.records import (
    ChunkRecord,
    DocumentRecord,
    HeadingRecord,
    PageRecord,
    TextRecord,
)
from longleaf.memory.tables import UNSTORABLE, Chunk, Document, Ingest, TextVersion, storable
from longleaf.memory.words import index_words

CANDIDATES_SHOWN = 10
IDS_AT_ONCE = 5000  # SQLite takes 32766 values in a statement, PostgreSQL 65535


class Documents:
    """Adding is journaled, because the vectors lie in another store that shares no transaction with SQL:

    `begin` (journal row) -> `Vectors.add` -> `add` (all rows, and the journal row goes, in one
    transaction). Whatever is in the journal when a library opens may have vectors without a document;
    `reconcile` settles it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        return self._database

    def begin(self, document_id: str, text_id: str) -> None:
        """Note that vectors of this text are about to be written. Safe to call twice."""
        with self._database.session(write=True) as session:
            _note(session, document_id, text_id)

    def unfinished(self) -> builtins.list[tuple[str, str]]:
        """(document id, text id) of adds that began and did not end, and of texts whose vectors must go."""
        with self._database.session() as session:
            rows = session.execute(select(Ingest.document_id, Ingest.text_id).order_by(Ingest.started_at))
            return [(row.document_id, row.text_id) for row in rows]

    def forget_unfinished(self, text_id: str) -> None:
        """Strike a text from the journal, once its vectors are gone or all there."""
        with self._database.session(write=True) as session:
            session.execute(delete(Ingest).where(Ingest.text_id == text_id))

    def add(
        self, document: DocumentRecord, text: TextRecord, chunks: Sequence[ChunkRecord], bodies: Sequence[str]
    ) -> None:
        """Write a document with its text, chunks and words, in one transaction, and strike it from the
        journal.

        `bodies[i]` is what full-text search finds chunk `i` by. Adding the same text again replaces its
        chunks; a text of another version becomes the current one, the old text is kept without chunks, and
        goes into the journal until its vectors are gone. Raises `ValueError` where the records do not
        belong together and `LongleafError` where the text holds what no database stores.
        """
        _check(document, text, chunks, bodies)
        with self._database.session(write=True) as session:
            before = session.get(Document, document.id)
            if before is not None and before.text_id != text.id:
                _note(session, document.id, before.text_id)
            session.merge(Document(**asdict(document) | {"errors": list(document.errors)}))
            session.flush()
            session.merge(_text_row(text))
            session.flush()
            session.execute(delete(Chunk).where(Chunk.document_id == document.id))
            if chunks:
                session.execute(insert(Chunk), [asdict(chunk) for chunk in chunks])
            index_words(session, [chunk.id for chunk in chunks], bodies)
            session.execute(delete(Ingest).where(Ingest.text_id == text.id))

    def get(self, id_or_prefix: str) -> DocumentRecord:
        """The document whose id is or begins with this. Raises `DocumentMissing` where none or several do."""
        wanted = storable(id_or_prefix.strip().lower())
        with self._database.session() as session:
            exact = session.get(Document, wanted)
            if exact is not None:
                return _document(exact)
            query = select(Document).where(Document.id.startswith(wanted, autoescape=True)).order_by(Document.id)
            found = session.scalars(query.limit(CANDIDATES_SHOWN + 1)).all()
        if wanted and len(found) == 1:
            return _document(found[0])
        if not wanted or not found:
            raise DocumentMissing(
                f"No document has the id {id_or_prefix!r}. `longleaf list` shows the documents and their ids."
            )
        raise DocumentMissing(
            f"Several documents have ids that begin with {id_or_prefix!r}; give more of it: " + _candidates(found)
        )

    def find(self, sha: str) -> DocumentRecord | None:
        """The document with exactly these bytes, or None."""
        with self._database.session() as session:
            row = session.get(Document, sha)
            return None if row is None else _document(row)

    def list(self) -> builtins.list[DocumentRecord]:
        """All documents, oldest first."""
        with self._database.session() as session:
            rows = session.scalars(select(Document).order_by(Document.added_at, Document.id))
            return [_document(row) for row in rows]

    def text(self, document_id: str) -> TextRecord:
        """The current text of a document, whole. Raises `DocumentMissing`."""
        query = select(TextVersion).join(Document, Document.text_id == TextVersion.id).where(Document.id == document_id)
        with self._database.session() as session:
            row = session.scalar(query)
            if row is None:
                raise _gone(document_id)
            return _text(row)

    def versions(self, document_id: str) -> builtins.list[str]:
        """Ids of all texts of a document, oldest first."""
        query = (
            select(TextVersion.id)
            .where(TextVersion.document_id == document_id)
            .order_by(TextVersion.created_at, TextVersion.id)
        )
        with self._database.session() as session:
            return [*session.scalars(query)]

    def chunks(self, document_id: str) -> builtins.list[ChunkRecord]:
        """The chunks of a document in reading order. Raises `DocumentMissing`."""
        query = select(Chunk).where(Chunk.document_id == document_id).order_by(Chunk.ordinal)
        with self._database.session() as session:
            if session.get(Document, document_id) is None:
                raise _gone(document_id)
            return [_chunk(row) for row in session.scalars(query)]

    def chunks_by_id(self, ids: Sequence[str]) -> dict[str, ChunkRecord]:
        """The chunks of these ids, in their order; ids that are not (or no longer) there are left out."""
        found: dict[str, ChunkRecord] = {}
        with self._database.session() as session:
            for some in _batches(ids):
                for row in session.scalars(select(Chunk).where(Chunk.id.in_(some))):
                    found[row.id] = _chunk(row)
        return {id_: found[id_] for id_ in ids if id_ in found}

    def remove(self, document_id: str) -> builtins.list[str]:
        """Remove a document with its texts, chunks and words; runs keep their quotes.

        Returns the ids of its texts. They are in the journal: call `Vectors.remove_text` and
        `forget_unfinished` for each, or leave it to `reconcile`. Raises `DocumentMissing`.
        """
        with self._database.session(write=True) as session:
            texts = [*session.scalars(select(TextVersion.id).where(TextVersion.document_id == document_id))]
            row = session.get(Document, document_id)
            if row is None:
                raise _gone(document_id)
            for text_id in texts:
                _note(session, document_id, text_id)
            session.execute(delete(Document).where(Document.id == document_id))
            return texts

    def chunk_count(self) -> int:
        """How many chunks all documents have together."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).select_from(Chunk)) or 0

    def chunk_ids(self) -> set[str]:
        """Ids of all chunks of all documents."""
        with self._database.session() as session:
            return set(session.scalars(select(Chunk.id)))

    def current_texts(self) -> set[str]:
        """Ids of the texts that have chunks now: one a document."""
        with self._database.session() as session:
            return set(session.scalars(select(Document.text_id)))


def _check(document: DocumentRecord, text: TextRecord, chunks: Sequence[ChunkRecord], bodies: Sequence[str]) -> None:
    if text.document_id != document.id or document.text_id != text.id:
        raise ValueError(f"text {text.id} and document {document.id} do not name each other")
    if any(chunk.text_id != text.id or chunk.document_id != document.id for chunk in chunks):
        raise ValueError(f"a chunk does not belong to text {text.id} of document {document.id}")
    if len(chunks) != len(bodies):
        raise ValueError(f"{len(chunks)} chunks, but {len(bodies)} bodies")
    bad = UNSTORABLE.search(text.characters)
    if bad is not None:
        # Not mended here: quotes are checked against these characters, and the caller holds them too.
        raise LongleafError(
            f"The text of {document.source} cannot be kept: character {bad.start()} is {bad.group()!a}, "
            "which databases refuse. Its parser should have put U+FFFD there; please report it with the file."
        )


def _note(session: Session, document_id: str, text_id: str) -> None:
    session.merge(Ingest(text_id=text_id, document_id=document_id, started_at=datetime.now(UTC)))


def _gone(document_id: str) -> DocumentMissing:
    return DocumentMissing(
        f"Document {document_id} is not in the library. `longleaf list` shows the documents and their ids."
    )


def _candidates(rows: Sequence[Document]) -> str:
    shown = ", ".join(f"{row.id[:16]} ({row.title})" for row in rows[:CANDIDATES_SHOWN])
    return shown + (", ..." if len(rows) > CANDIDATES_SHOWN else "")


def _batches(ids: Sequence[str]) -> Iterator[builtins.list[str]]:
    rest = iter(dict.fromkeys(ids))
    while some := [*islice(rest, IDS_AT_ONCE)]:
        yield some


def _text_row(text: TextRecord) -> TextVersion:
    return TextVersion(
        id=text.id,
        document_id=text.document_id,
        parser=text.parser,
        parser_version=text.parser_version,
        characters=text.characters,
        pages=[[page.number, page.start, page.end, page.error] for page in text.pages],
        headings=[[heading.start, heading.end, heading.level] for heading in text.headings],
        unit=text.unit,
        created_at=text.created_at,
    )


def _text(row: TextVersion) -> TextRecord:
    return TextRecord(
        id=row.id,
        document_id=row.document_id,
        parser=row.parser,
        parser_version=row.parser_version,
        characters=row.characters,
        pages=tuple(PageRecord(*page) for page in row.pages),
        headings=tuple(HeadingRecord(*heading) for heading in row.headings),
        unit=row.unit,
        created_at=row.created_at,
    )


def _document(row: Document) -> DocumentRecord:
    return DocumentRecord(
        id=row.id,
        title=row.title,
        source=row.source,
        mime=row.mime,
        bytes=row.bytes,
        pages=row.pages,
        characters=row.characters,
        tokens=row.tokens,
        chunks=row.chunks,
        unit=row.unit,
        status="whole" if row.status == "whole" else "partial",
        errors=tuple(row.errors),
        text_id=row.text_id,
        added_at=row.added_at,
    )


def _chunk(row: Chunk) -> ChunkRecord:
    return ChunkRecord(
        id=row.id,
        text_id=row.text_id,
        document_id=row.document_id,
        ordinal=row.ordinal,
        start=row.start,
        end=row.end,
        page_start=row.page_start,
        page_end=row.page_end,
        tokens=row.tokens,
        sha256=row.sha256,
    )
