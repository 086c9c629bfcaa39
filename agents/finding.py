"""What the members of a team found: sentences of their parts, as spans, judged by code and bounded in number.

A model's words are not kept: what it copied is looked for in its part, and what is not there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from longleaf.agents.denial import quotes_nothing
from longleaf.agents.evidence import MODEL_BONUS, confidence, whole_sentences
from longleaf.agents.part import Part
from longleaf.agents.reader import Chooser, Work
from longleaf.agents.state import EvidenceState
from longleaf.retrieval.quote import Source, check
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

KEPT = 24
"""Findings carried from wave to wave for an answer."""

NOTED = 512
"""Sentences carried from wave to wave for a summary: 7 KB of a checkpoint."""

_A_PART = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters `span` of the document of part `ordinal`; `by` says who picked them, `confidence` (0 to 1) how
    strongly they speak to the question."""

    ordinal: int
    span: Span
    by: Chooser = "search"
    confidence: float = 0.0

    @property
    def strength(self) -> float:
        return self.confidence + (MODEL_BONUS if self.by == "model" else 0.0)


def packed(finding: Finding) -> list[int]:
    """A finding as a checkpoint holds it: a dozen bytes."""
    by = int(finding.by == "model")
    return [finding.ordinal, finding.span.start, finding.span.end, by, round(finding.confidence * 1000)]


def unpacked(row: Sequence[int]) -> Finding:
    """The finding that `packed` wrote."""
    ordinal, start, end, by, thousandths = row
    return Finding(ordinal, Span(start, end), "model" if by else "search", thousandths / 1000)


def copied(reply: str, part: Part, shelf: Shelf) -> list[Span] | None:
    """The whole sentences of its part that a member copied; None where what it gave is not there."""
    if quotes_nothing(reply):
        return []
    text = shelf.text(part.document_id)
    outcome = check(reply, [Source(part.document_id, text, part.span)])
    if outcome.status == "missing":
        return None
    return [whole_sentences(text, found.span) for found in outcome.found]


def judged(work: Work, made: Sequence[Part], findings: Iterable[Finding]) -> list[Finding]:
    """The sentences of findings, those that speak to the question most first, without repeats.

    As in `retrieve`, the question's words count that the sentence's chunk holds, as far as it was found.
    """
    given = list(dict.fromkeys(findings))
    chunks = work.deps.shelf.spans(sorted({key for item in given for key in made[item.ordinal].chunk_ids}))
    places = []
    for item in given:
        part = made[item.ordinal]
        held = (key for key in part.chunk_ids if key in chunks and chunks[key][1].overlaps(item.span))
        places.append((f"{item.ordinal}|{next(held, '')}", part.document_id, item.span))
    chosen = [(made[item.ordinal].document_id, item.span) for item in given if item.by == "model"]
    kept: list[Finding] = []
    for unit in work.deps.search.weigh(work.ask.question, list(dict.fromkeys(places))):
        ordinal = int(unit.chunk_id.split("|")[0])
        model = any(document == unit.document_id and span.overlaps(unit.span) for document, span in chosen)
        # As a checkpoint rounds it, or a resumed run might order two near equals the other way.
        kept.append(Finding(ordinal, unit.span, "model" if model else "search", round(confidence(unit), 3)))
    return best(kept, made, len(kept), len(kept))


def best(findings: Iterable[Finding], made: Sequence[Part], most: int = KEPT, a_part: int = 0) -> list[Finding]:
    """The strongest findings, at most `most` and so many of a part that all parts get room."""
    limit = a_part or max(_A_PART, -(-most // max(1, len(made))))
    kept: list[Finding] = []
    counts: dict[int, int] = {}
    for item in sorted(findings, key=lambda item: (-item.strength, item.ordinal, item.span.start)):
        document = made[item.ordinal].document_id
        repeats = any(made[other.ordinal].document_id == document and other.span.overlaps(item.span) for other in kept)
        if not repeats and counts.get(item.ordinal, 0) < limit:
            counts[item.ordinal] = counts.get(item.ordinal, 0) + 1
            kept.append(item)
    return kept[:most]


def spread(findings: Sequence[Finding], most: int) -> list[Finding]:
    """At most `most` findings in reading order: each part's first ones, and evenly many over the whole."""
    ordered = sorted(set(findings), key=lambda item: (item.ordinal, item.span.start))
    if len(ordered) <= most:
        return ordered
    firsts = list({item.ordinal: item for item in reversed(ordered)}.values())[::-1]
    kept = firsts if len(firsts) <= most else [firsts[place * len(firsts) // most] for place in range(most)]
    rest = [item for item in ordered if item not in set(kept)]
    room = most - len(kept)
    kept += [rest[place * len(rest) // room] for place in range(room)] if room else []
    return sorted(kept, key=lambda item: (item.ordinal, item.span.start))


def evidence(findings: Iterable[Finding], made: Sequence[Part]) -> list[EvidenceState]:
    """Findings as evidence: the document's own characters, so verified as they stand."""
    return [
        EvidenceState(
            document_id=made[item.ordinal].document_id,
            start=item.span.start,
            end=item.span.end,
            status="verified",
            by=item.by,
            score=item.strength,
            confidence=item.confidence,
        )
        for item in findings
    ]


def passage(finding: Finding, made: Sequence[Part], shelf: Shelf, neighbours: int = 1) -> str:
    """A finding amid its neighbouring sentences, on one line."""
    text = shelf.text(made[finding.ordinal].document_id)
    return " ".join(text.slice(whole_sentences(text, finding.span, neighbours)).split())
