"""The gate: parts that search and the model's attention both score as irrelevant are not read.

Search speaks for a part where any of its chunks is a candidate that has something of the question: there are always as
many candidates, and the last of them may have nothing. Attention speaks for it where one of its sentences draws at
least half of what search's best sentence draws in the same pass. An engine without attention scores leaves search alone
to judge, which `Gate.note` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.agents import attend
from longleaf.agents.lines import units
from longleaf.agents.part import Part
from longleaf.agents.reader import Work
from longleaf.agents.state import PassageState
from longleaf.engine.errors import NotCalibrated, WindowExceeded
from longleaf.memory.records import SourceSpan

LEAST_ATTENTION = 0.5
"""Least attention of a part's best sentence, relative to the best sentence that search knows."""

ALONE = "search finds nothing in it for the question"
BOTH = "neither search nor the model's attention finds anything in it for the question"
_ALONE_NOTE = "only search judged which parts to skip: the model gives no attention scores"
_NOTHING_NOTE = "search found nothing at all, so no part was skipped"


@dataclass(frozen=True, slots=True)
class Gate:
    """`open` are the ordinals of parts that search speaks for, `reference` its best sentence.

    `attention` says whether the model is asked about the others.
    """

    open: tuple[int, ...]
    reference: PassageState | None
    attention: bool
    note: str = ""


def judged(work: Work, made: Sequence[Part]) -> Gate:
    """Put the question to search once, for all parts."""
    hits = work.deps.search.find(work.ask.question, work.ask.document_ids or None)
    if not hits.sentences:
        return Gate(tuple(part.ordinal for part in made), None, False, _NOTHING_NOTE)
    candidates = {s.chunk_id for s in hits.sentences if s.similarity > 0 or s.coverage > 0}
    best = hits.sentences[0]
    reference = PassageState(
        chunk_id=best.chunk_id, document_id=best.document_id, start=best.span.start, end=best.span.end
    )
    attention = attend.can_attend(work.deps)
    open_ones = tuple(part.ordinal for part in made if candidates.intersection(part.chunk_ids))
    return Gate(open_ones, reference, attention, "" if attention else _ALONE_NOTE)


def attended(work: Work, part: Part, reference: PassageState) -> bool | None:
    """Whether the model's attention speaks for a part; None where it cannot say.

    The reference stands amid the part's sentences, since both ends of a context draw attention for being there.
    """
    shelf = work.deps.shelf
    own = [unit.text for unit in units([SourceSpan(part.document_id, part.span.start, part.span.end)], shelf)]
    known = shelf.text(reference["document_id"]).characters[reference["start"] : reference["end"]]
    middle = len(own) // 2
    asked = [*own[:middle], " ".join(known.split()), *own[middle:]]
    try:
        scores = attend.attended(work, "gate", work.ask.question, asked)
    except (NotCalibrated, WindowExceeded):
        return None
    others = [*scores[:middle], *scores[middle + 1 :]]
    return max(others, default=0.0) >= LEAST_ATTENTION * scores[middle]
