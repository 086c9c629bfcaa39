"""What of the documents was read, from the steps in SQL: the record, whatever ended the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from longleaf.agents.reader import Deps, Read
from longleaf.memory.records import DocumentRecord, StepRecord
from longleaf.retrieval.text import Span


def covered(
    steps: Sequence[StepRecord],
    documents: Sequence[DocumentRecord],
    deps: Deps,
    skimmed: Iterable[tuple[str, Span]] = (),
    gap: str | None = None,
) -> tuple[Read, ...]:
    """Spans that were read, left out or skimmed, in reading order; neighbours of one kind are joined.

    A chunk is read where a call that ended well held it, and skipped where a step says so or every call that held it
    failed; where code went back to one of these it is skimmed. `gap` is why the rest was not read, for readers that
    set out to read everything; None leaves it unnamed.
    """
    outcome = _outcomes(steps)
    seen = set(skimmed)
    parts: list[Read] = []
    for document in documents:
        for chunk in deps.documents.chunks(document.id):
            part = _part(document.id, Span(chunk.start, chunk.end), outcome.get(chunk.id), seen, gap)
            if part is not None:
                _join(parts, part)
    return tuple(parts)


def _outcomes(steps: Sequence[StepRecord]) -> dict[str, tuple[str, str]]:
    """Of each chunk, how it went and why: what was read once stays read."""
    outcome: dict[str, tuple[str, str]] = {}
    for step in steps:
        for key in step.chunk_ids:
            if outcome.get(key, ("", ""))[0] != "done":
                outcome[key] = (step.status, step.error or "")
    return outcome


def _part(
    document_id: str, span: Span, outcome: tuple[str, str] | None, skimmed: set[tuple[str, Span]], gap: str | None
) -> Read | None:
    status, why = outcome or ("", "")
    if status == "done":
        return Read(document_id, span.start, span.end, "read")
    if status:
        return Read(document_id, span.start, span.end, "skimmed" if status == "skimmed" else "skipped", why)
    if (document_id, span) in skimmed:
        return Read(document_id, span.start, span.end, "skimmed")
    return Read(document_id, span.start, span.end, "skipped", gap) if gap else None


def _join(parts: list[Read], part: Read) -> None:
    last = parts[-1] if parts else None
    joins = (
        last is not None
        and last.document_id == part.document_id
        and last.end == part.start
        and (last.how, last.why) == (part.how, part.why)
    )
    if last is not None and joins:
        parts[-1] = Read(last.document_id, last.start, part.end, last.how, last.why)
    else:
        parts.append(part)
