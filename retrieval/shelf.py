"""`Shelf`: texts as this room knows them, read from SQL and kept while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from longleaf.memory.documents import Documents
from longleaf.memory.records import HeadingRecord, PageRecord, TextRecord
from longleaf.retrieval.text import Heading, Page, Span, Text

_KEPT_CHARACTERS = 50_000_000


class Shelf:
    """Texts and chunk spans by id. Texts are immutable, so those used last stay in memory, within a bound."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._kept: OrderedDict[str, Text] = OrderedDict()
        self._lock = Lock()

    def text(self, document_id: str) -> Text:
        """The current text of a document. Raises `DocumentMissing`."""
        with self._lock:
            if document_id in self._kept:
                self._kept.move_to_end(document_id)
                return self._kept[document_id]
        text = from_record(self._documents.text(document_id), self._documents.get(document_id).title)
        with self._lock:
            self._kept[document_id] = text
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_CHARACTERS:
                self._kept.popitem(last=False)
        return text

    def spans(self, chunk_ids: Sequence[str]) -> dict[str, tuple[str, Span]]:
        """Document and span of each chunk that still exists."""
        found = self._documents.chunks_by_id(list(chunk_ids))
        return {key: (record.document_id, Span(record.start, record.end)) for key, record in found.items()}

    def forget(self, document_id: str) -> None:
        """Drop a text that was replaced or removed."""
        with self._lock:
            self._kept.pop(document_id, None)


def from_record(record: TextRecord, title: str) -> Text:
    """A stored text version as `Text`."""
    return Text(
        record.characters,
        tuple(Page(page.number, page.start, page.end, page.error) for page in record.pages),
        tuple(Heading(heading.start, heading.end, heading.level) for heading in record.headings),
        title,
        "page" if record.unit == "page" else "section",
    )


def page_records(text: Text) -> tuple[PageRecord, ...]:
    return tuple(PageRecord(page.number, page.start, page.end, page.error) for page in text.pages)


def heading_records(text: Text) -> tuple[HeadingRecord, ...]:
    return tuple(HeadingRecord(heading.start, heading.end, heading.level) for heading in text.headings)
