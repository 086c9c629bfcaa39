"""The state of a reading graph: ids and spans only, so that a checkpoint stays small whatever the document's size."""

from __future__ import annotations

from typing import TypedDict

from longleaf.agents.reader import Chooser
from longleaf.retrieval.quote import QuoteStatus


class PassageState(TypedDict):
    """A passage to read."""

    chunk_id: str
    document_id: str
    start: int
    end: int


class EvidenceState(TypedDict):
    """A span that may become a quote, and how strongly it speaks to the question."""

    document_id: str
    start: int
    end: int
    status: QuoteStatus
    by: Chooser
    score: float
    confidence: float


class ReadState(TypedDict, total=False):
    """Input: everything up to `seed`. The rest is filled in by nodes."""

    run_id: str
    question: str
    document_ids: list[str]
    passages_wanted: int
    quotes_wanted: int
    answer_tokens: int
    seed: int
    passages: list[PassageState]
    candidates: list[EvidenceState]
    evidence: list[EvidenceState]
    found: bool
    wording: str
    notes: list[str]
