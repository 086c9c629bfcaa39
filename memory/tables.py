"""The tables, as SQLAlchemy sees them.

`document` has `text_version`s (every parse) and `chunk`s (of the current text only); removing it removes
them. `run` has `step`s, `memory_version`s, `claim`s and their `quote`s; these name documents without a
foreign key, so an old answer keeps its quotes when a document is gone. `ingest` is the journal of texts that
the vector index may hold although SQL does not. The full-text index is not here: each database has its own
kind, see `words`. `conversation` has `turn`s and `summary`s; `fact` and `question` are what is known across
conversations, and name runs and documents without a foreign key. `template` is how questions were answered.
`kv_asset` is what the engine keeps of documents as files.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class UtcTime(TypeDecorator[datetime]):
    """A point in time. SQLite forgets time zones, so everything is written as UTC and marked so when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; use datetime.now(UTC)")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Prose(TypeDecorator[str]):
    """Words of people and models, which may hold anything. What no database can store becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """`text` with U+FFFD for what PostgreSQL (NUL) or UTF-8 (lone surrogates) refuses; offsets hold."""
    return UNSTORABLE.sub("\ufffd", text)


class Table(DeclarativeBase):
    """Base of all tables. Constraints have fixed names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcTime(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(),
    }


class Document(Table):
    __tablename__ = "document"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(Prose)
    source: Mapped[str] = mapped_column(Prose)
    mime: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    pages: Mapped[int]
    characters: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    chunks: Mapped[int]
    unit: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    errors: Mapped[list[Any]]
    # The current text. No foreign key: the two tables would then need each other to be filled first.
    text_id: Mapped[str] = mapped_column(String(32))
    added_at: Mapped[datetime]


class TextVersion(Table):
    __tablename__ = "text_version"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("document.id", ondelete="CASCADE"), index=True)
    parser: Mapped[str] = mapped_column(Text)
    parser_version: Mapped[str] = mapped_column(Text)
    characters: Mapped[str] = mapped_column(Text)
    pages: Mapped[list[Any]]
    headings: Mapped[list[Any]]
    unit: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class Chunk(Table):
    __tablename__ = "chunk"

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    text_id: Mapped[str] = mapped_column(ForeignKey("text_version.id", ondelete="CASCADE"), index=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("document.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int]
    start: Mapped[int] = mapped_column("char_start")
    end: Mapped[int] = mapped_column("char_end")
    page_start: Mapped[int]
    page_end: Mapped[int]
    tokens: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))


class Ingest(Table):
    __tablename__ = "ingest"

    text_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    document_id: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]


class Run(Table):
    __tablename__ = "run"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    question: Mapped[str] = mapped_column(Prose)
    reader: Mapped[str] = mapped_column(Text)
    document_ids: Mapped[list[Any]]
    settings: Mapped[dict[str, Any]]
    settings_hash: Mapped[str] = mapped_column(String(64))
    prompt_hashes: Mapped[dict[str, Any]]
    model: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    stop_reason: Mapped[str | None] = mapped_column(Prose)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class Step(Table):
    __tablename__ = "step"

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    node: Mapped[str] = mapped_column(Text)
    chunk_ids: Mapped[list[Any]]
    attempt: Mapped[int]
    prompt_tokens: Mapped[int]
    generated_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    seconds: Mapped[float] = mapped_column(Double)
    status: Mapped[str] = mapped_column(String(32))
    error: Mapped[str | None] = mapped_column(Prose)
    created_at: Mapped[datetime]


class MemoryVersion(Table):
    __tablename__ = "memory_version"

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    node: Mapped[str] = mapped_column(Text)
    chunk_ids: Mapped[list[Any]]
    text: Mapped[str] = mapped_column(Prose)
    tokens: Mapped[int]
    lines: Mapped[list[Any]]
    added: Mapped[list[Any]]
    dropped: Mapped[list[Any]]
    created_at: Mapped[datetime]


class Claim(Table):
    __tablename__ = "claim"

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Prose)
    confidence: Mapped[float | None] = mapped_column(Double)


class Quote(Table):
    __tablename__ = "quote"

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    claim_ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    document_id: Mapped[str] = mapped_column(String(64), index=True)
    start: Mapped[int] = mapped_column("char_start")
    end: Mapped[int] = mapped_column("char_end")
    page: Mapped[int]
    text: Mapped[str] = mapped_column(Prose)
    status: Mapped[str] = mapped_column(String(32))


class Conversation(Table):
    __tablename__ = "conversation"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(Prose)
    started_at: Mapped[datetime]
    asked_at: Mapped[datetime] = mapped_column(index=True)


class Turn(Table):
    __tablename__ = "turn"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    asked: Mapped[str] = mapped_column(Prose)
    question: Mapped[str] = mapped_column(Prose)
    document_ids: Mapped[list[Any]]
    run_id: Mapped[str] = mapped_column(String(64), index=True)
    answer: Mapped[str] = mapped_column(Prose)
    found: Mapped[bool]
    tokens: Mapped[int]
    asked_at: Mapped[datetime]


class Summary(Table):
    __tablename__ = "summary"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    up_to: Mapped[int]
    text: Mapped[str] = mapped_column(Prose)
    tokens: Mapped[int]
    made_at: Mapped[datetime]


class Fact(Table):
    __tablename__ = "fact"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    scope: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(Prose)
    text: Mapped[str] = mapped_column(Prose)
    question: Mapped[str] = mapped_column(Prose)
    key: Mapped[str] = mapped_column(Prose)
    words: Mapped[str] = mapped_column(Prose)
    document_id: Mapped[str | None] = mapped_column(String(64), index=True)
    title: Mapped[str] = mapped_column(Prose)
    text_id: Mapped[str | None] = mapped_column(String(32))
    start: Mapped[int] = mapped_column("char_start")
    end: Mapped[int] = mapped_column("char_end")
    page: Mapped[int]
    quote: Mapped[str] = mapped_column(Prose)
    run_id: Mapped[str | None] = mapped_column(String(64))
    claim_ordinal: Mapped[int]
    source: Mapped[str] = mapped_column(String(8))
    asked_at: Mapped[datetime] = mapped_column(index=True)
    valid_from: Mapped[datetime]
    superseded_by: Mapped[str | None] = mapped_column(String(32))
    superseded_at: Mapped[datetime | None]
    pinned: Mapped[bool]


class Question(Table):
    __tablename__ = "question"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    asked: Mapped[str] = mapped_column(Prose)
    key: Mapped[str] = mapped_column(Prose)
    words: Mapped[str] = mapped_column(Prose)
    document_ids: Mapped[list[Any]]
    answer: Mapped[str] = mapped_column(Prose)
    found: Mapped[bool]
    asked_at: Mapped[datetime] = mapped_column(index=True)
    feedback: Mapped[str | None] = mapped_column(String(8))


class Template(Table):
    __tablename__ = "template"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    shape: Mapped[str] = mapped_column(Prose)
    words: Mapped[str] = mapped_column(Prose)
    steps: Mapped[list[Any]]
    run_id: Mapped[str] = mapped_column(String(64), index=True)
    uses: Mapped[int]
    made_at: Mapped[datetime]


class KvAsset(Table):
    __tablename__ = "kv_asset"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(32))
    document_id: Mapped[str | None] = mapped_column(String(64), index=True)
    tokens: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text)
    hits: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    last_used: Mapped[datetime]
