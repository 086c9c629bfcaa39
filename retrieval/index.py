"""`Index`: puts parsed documents into the library so that a document is there whole or not at all."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from longleaf.memory.consistency import reconcile
from longleaf.memory.documents import Documents
from longleaf.memory.records import ChunkRecord, DocumentRecord, TextRecord, chunk_id, text_version_id
from longleaf.memory.vectors import Vectors
from longleaf.retrieval.chunk import Chunk, ChunkPlan, body, chunk
from longleaf.retrieval.embedding import Embedder
from longleaf.retrieval.parsers import Parsed
from longleaf.retrieval.shelf import Shelf, heading_records, page_records
from longleaf.retrieval.text import Text

logger = logging.getLogger(__name__)

Stage = Literal["chunk", "embed", "write"]
OnStage = Callable[[Stage, int, int], None]
"""Called with the stage of an add and (chunks done, chunks in all)."""


class Index:
    """Writes documents: journal, then vectors, then everything else in one SQL transaction.

    Killed at any point, the document is absent until that transaction and whole after it; `repair`, run when a
    library is opened for writing, drops vectors left without a document.
    """

    def __init__(
        self,
        documents: Documents,
        vectors: Vectors,
        shelf: Shelf,
        embedder: Embedder,
        plan: ChunkPlan | None = None,
    ) -> None:
        self._documents = documents
        self._vectors = vectors
        self._shelf = shelf
        self._embedder = embedder
        self._plan = plan or ChunkPlan()

    def add(self, parsed: Parsed, source: str, on_stage: OnStage | None = None) -> DocumentRecord:
        """Add a parsed file, or return the document that already holds these bytes in this parse."""
        text_id = text_version_id(parsed.sha256, parsed.parser, parsed.parser_version)
        known = self._documents.find(parsed.sha256)
        if known is not None and known.text_id == text_id:
            return known
        now = datetime.now(UTC)
        text = TextRecord(
            id=text_id,
            document_id=parsed.sha256,
            parser=parsed.parser,
            parser_version=parsed.parser_version,
            characters=parsed.text.characters,
            pages=page_records(parsed.text),
            headings=heading_records(parsed.text),
            unit=parsed.text.unit,
            created_at=now,
        )
        document = DocumentRecord(
            id=parsed.sha256,
            title=parsed.text.title or source,
            source=source,
            mime=parsed.mime,
            bytes=parsed.bytes,
            pages=len(parsed.text.pages),
            characters=len(parsed.text),
            tokens=0,
            chunks=0,
            unit=parsed.text.unit,
            status=parsed.text.status,
            errors=tuple(f"{parsed.text.unit} {page.number}: {page.error}" for page in parsed.text.failed_pages()),
            text_id=text_id,
            added_at=known.added_at if known else now,
        )
        return self._write(document, text, parsed.text, on_stage)

    def remove(self, document_id: str) -> None:
        """Take a document out. Its text versions go; the runs that quoted it keep their quotes."""
        for text_id in self._documents.remove(document_id):
            self._vectors.remove_text(text_id)
            self._documents.forget_unfinished(text_id)
        self._shelf.forget(document_id)

    def repair(self, on_stage: OnStage | None = None) -> int:
        """Bring vectors and SQL back in step after a crash; returns how many documents were embedded again."""
        outcome = reconcile(self._documents, self._vectors)
        texts = {key.rpartition(":")[0] for key in outcome.missing}
        lacking = [document for document in self._documents.list() if document.text_id in texts]
        for document in lacking:
            self._embed_again(document, on_stage)
        return len(lacking)

    def rebuild(self, on_stage: OnStage | None = None) -> int:
        """Make all chunks and vectors anew from the texts in SQL; returns the number of documents."""
        self._vectors.reset()
        documents = self._documents.list()
        for document in documents:
            self._embed_again(document, on_stage)
        return len(documents)

    def _embed_again(self, document: DocumentRecord, on_stage: OnStage | None) -> None:
        self._write(document, self._documents.text(document.id), self._shelf.text(document.id), on_stage)

    def _write(
        self, document: DocumentRecord, record: TextRecord, text: Text, on_stage: OnStage | None
    ) -> DocumentRecord:
        report = on_stage or (lambda stage, done, total: None)
        report("chunk", 0, 0)
        parts = chunk(text, self._embedder.count, self._plan)
        bodies = [body(text, part) for part in parts]
        chunks = [_chunk_record(document, text, part) for part in parts]
        vectors = self._embedder.embed(bodies, lambda done, total: report("embed", done, total))
        report("write", 0, len(chunks))
        self._documents.begin(document.id, record.id)
        if document.chunks > len(chunks):  # made again with larger chunks: those past the new end must go
            self._vectors.remove_text(record.id)
        self._vectors.add([item.id for item in chunks], vectors, [document.id] * len(chunks), [record.id] * len(chunks))
        whole = replace(document, chunks=len(chunks), tokens=sum(item.tokens for item in chunks))
        replaced = [text_id for text_id in self._documents.versions(document.id) if text_id != record.id]
        self._documents.add(whole, record, chunks, bodies)
        for text_id in replaced:
            self._vectors.remove_text(text_id)
            self._documents.forget_unfinished(text_id)
        self._shelf.forget(document.id)
        report("write", len(chunks), len(chunks))
        logger.info("indexed %s: %d chunks", document.source, len(chunks))
        return whole


def _chunk_record(document: DocumentRecord, text: Text, part: Chunk) -> ChunkRecord:
    return ChunkRecord(
        id=chunk_id(document.text_id, part.ordinal),
        text_id=document.text_id,
        document_id=document.id,
        ordinal=part.ordinal,
        start=part.span.start,
        end=part.span.end,
        page_start=text.page_at(part.span.start).number,
        page_end=text.page_at(max(part.span.start, part.span.end - 1)).number,
        tokens=part.tokens,
        sha256=hashlib.sha256(text.slice(part.span).encode(errors="surrogatepass")).hexdigest(),
    )
