"""The state of a reading graph: ids and spans only, so that a checkpoint stays small whatever the document's size."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from longleaf.agents.reader import Chooser
from longleaf.retrieval.quote import QuoteStatus


class PassageState(TypedDict):
    """A passage to read."""

    chunk_id: str
    document_id: str
    start: int
    end: int


class EvidenceState(TypedDict):
    """A span that may become a quote, and how strongly it speaks to the question.

    `linked`: a name ties it to one that does, so that it counts however little of the question it says.
    """

    document_id: str
    start: int
    end: int
    status: QuoteStatus
    by: Chooser
    score: float
    confidence: float
    linked: NotRequired[bool]


class LookedState(TypedDict):
    """A span that a reply's attention went to, and the share it got."""

    document_id: str
    start: int
    end: int
    score: float


class ClaimState(TypedDict):
    """A statement on the way to the answer: what was asked, what was found, and the spans behind it."""

    about: str
    text: str
    evidence: list[EvidenceState]


class ReadState(TypedDict, total=False):
    """What every reader's state has at its end; all of it filled in by nodes.

    `evidence` and `wording` make the answer's claim, `claims` those of the questions on the way. What was read is not
    here: the steps in SQL say it. `looked` is what the reply's attention went to, where the engine tells.
    """

    passages: list[PassageState]
    candidates: list[EvidenceState]
    evidence: list[EvidenceState]
    claims: list[ClaimState]
    found: bool
    wording: str
    notes: list[str]
    looked: list[LookedState]
