"""Plain values that go into the database and come out of it.

Offsets are code points of the text version's characters, intervals are `[start, end)`, times are UTC, sizes
are bytes unless the name says tokens or characters.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

DocumentStatus = Literal["whole", "partial"]
RunStatus = Literal["running", "done", "failed", "interrupted"]
FactScope = Literal["document", "collection", "user"]
FactSource = Literal["model", "user"]
Feedback = Literal["good", "bad"]


def text_version_id(document_id: str, parser: str, parser_version: str) -> str:
    """The id of one parser's reading of one document: 32 hexadecimal digits."""
    return hashlib.sha256(f"{document_id}|{parser}|{parser_version}".encode()).hexdigest()[:32]


def chunk_id(text_id: str, ordinal: int) -> str:
    """The id of the `ordinal`-th chunk (from 0) of a text version."""
    return f"{text_id}:{ordinal:06d}"


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page of a text version; `error` says why it could not be read."""

    number: int
    start: int
    end: int
    error: str | None


@dataclass(frozen=True, slots=True)
class HeadingRecord:
    """A heading's own characters and its level, 1 the highest."""

    start: int
    end: int
    level: int


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One parser's reading of a document. `id` is `text_version_id(...)`; `unit` says what a page is."""

    id: str
    document_id: str
    parser: str
    parser_version: str
    characters: str
    pages: tuple[PageRecord, ...]
    headings: tuple[HeadingRecord, ...]
    unit: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A span of a text that is indexed as one. `id` is `chunk_id(...)`, `sha256` is of its characters."""

    id: str
    text_id: str
    document_id: str
    ordinal: int
    start: int
    end: int
    page_start: int
    page_end: int
    tokens: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document as listed. `id` is the sha256 of its bytes, `source` a file name, `text_id` its text now."""

    id: str
    title: str
    source: str
    mime: str
    bytes: int
    pages: int
    characters: int
    tokens: int
    chunks: int
    unit: str
    status: DocumentStatus
    errors: tuple[str, ...]
    text_id: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One question put to one reader, with all that is needed to repeat it. `answer` is JSON."""

    id: str
    question: str
    reader: str
    document_ids: tuple[str, ...]
    settings: dict[str, Any]
    settings_hash: str
    prompt_hashes: dict[str, str]
    model: str
    status: RunStatus
    stop_reason: str | None
    answer: dict[str, Any] | None
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One model call of a run. `Runs.step` gives `sequence`, from 1; what is passed in is ignored."""

    run_id: str
    sequence: int
    node: str
    chunk_ids: tuple[str, ...]
    attempt: int
    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int
    seconds: float
    status: str
    error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class QuoteRecord:
    """Words of a document that hold up a claim, and how their check against the page ended."""

    document_id: str
    start: int
    end: int
    page: int
    text: str
    status: str


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """One statement of an answer with its quotes. `confidence` is in [0, 1], or None."""

    text: str
    confidence: float | None
    quotes: tuple[QuoteRecord, ...]


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Characters `[start, end)` of a document."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One line of a memory and the spans of documents that hold it up, found by code.

    `mark`: supported; unsupported, which no span ever held up; lost, whose support an overwrite took away. `by` says
    who put it there. `out` is why a line that was proposed is not in the memory's text; empty for one that is.
    """

    text: str
    spans: tuple[SourceSpan, ...]
    mark: Literal["supported", "unsupported", "lost"]
    by: Literal["model", "search"] = "model"
    out: str = ""


@dataclass(frozen=True, slots=True)
class MemoryVersionRecord:
    """What a run's memory held after its `sequence`-th change (from 1), and what that change added and dropped.

    `chunk_ids` name what was read for it. `text` is the memory as the next prompt sees it.
    """

    run_id: str
    sequence: int
    node: str
    chunk_ids: tuple[str, ...]
    text: str
    tokens: int
    lines: tuple[MemoryLine, ...]
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """Questions that belong together. `title` is the first of them, `asked_at` the time of the last."""

    id: str
    title: str
    started_at: datetime
    asked_at: datetime
    turns: int


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One question of a conversation and its answer.

    `asked` is what was typed and `question` what it was read as. `Conversations.append` gives `ordinal`, from 1; what
    is passed in is ignored.
    """

    conversation_id: str
    ordinal: int
    asked: str
    question: str
    document_ids: tuple[str, ...]
    run_id: str
    answer: str
    found: bool
    tokens: int
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class SummaryRecord:
    """What stands for the turns up to and with `up_to`. Older summaries, and the turns themselves, stay."""

    conversation_id: str
    up_to: int
    text: str
    tokens: int
    made_at: datetime


@dataclass(frozen=True, slots=True)
class FactRecord:
    """Something known across conversations: a claim with its checked quote, or a user's own word.

    `scope` says what it holds for and `scope_id` which one (a document's sha256, a collection's name, empty for the
    user). `key` is the normalised question, `words` the stems it is found by. A fact without a document has no span,
    and page 0. `stale` is worked out when it is read: its document is gone, or the document's text of now does not
    hold the quote at the span.
    """

    id: str
    scope: FactScope
    scope_id: str
    text: str
    question: str
    key: str
    words: tuple[str, ...]
    document_id: str | None
    title: str
    text_id: str | None
    start: int
    end: int
    page: int
    quote: str
    run_id: str | None
    claim_ordinal: int
    source: FactSource
    asked_at: datetime
    valid_from: datetime
    superseded_by: str | None = None
    superseded_at: datetime | None = None
    pinned: bool = False
    stale: bool = False

    @property
    def superseded(self) -> bool:
        return self.superseded_at is not None


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A question that was answered, by its run. `key` is its normalised form, `feedback` good, bad or None."""

    run_id: str
    asked: str
    key: str
    words: tuple[str, ...]
    document_ids: tuple[str, ...]
    answer: str
    found: bool
    asked_at: datetime
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """How a question was answered, with slots for what it was about.

    `shape` is the question, `steps` what was asked and found on the way, `words` the stems of the shape. `run_id` is
    the run it was learned from last, `uses` how many runs were answered in this way.
    """

    id: str
    shape: str
    words: tuple[str, ...]
    steps: tuple[str, ...]
    run_id: str
    uses: int
    made_at: datetime


@dataclass(frozen=True, slots=True)
class KvAssetRecord:
    """Keys and values of a document that are kept as files.

    `name` is the engine's, of the tokens and the fingerprint of what made them; `path` is that of its file, relative
    to the library's `kv` folder. `bytes` counts what it shares with other documents in full, `hits` how often it was
    opened again. `document_id` is None where what was read is no document of the library.
    """

    name: str
    model: str
    fingerprint: str
    document_id: str | None
    tokens: int
    bytes: int
    path: str
    hits: int
    created_at: datetime
    last_used: datetime
