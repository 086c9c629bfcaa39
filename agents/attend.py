"""The model's attention as a judge of sentences: which of them a question looks at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from longleaf.agents.errors import CapabilityMissing, RunStopped
from longleaf.agents.evidence import weighed
from longleaf.agents.reader import Deps, Work
from longleaf.agents.state import EvidenceState
from longleaf.engine.contract import ScoresContext
from longleaf.engine.errors import Stopped
from longleaf.memory.records import SourceSpan, StepRecord
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span


def can_attend(deps: Deps) -> bool:
    """Whether the model gives attention scores."""
    return "scores_context" in deps.engine.card.capabilities


def refuse_unless_it_attends(deps: Deps) -> None:
    """Raise `CapabilityMissing` where the model gives no attention scores."""
    if not can_attend(deps):
        name = deps.engine.card.name
        raise CapabilityMissing(
            f"The attention of {name} cannot be asked. Use `--reader retrieve`, or a model that runs here "
            f"(`longleaf models list`); if {name} is one, run `longleaf models calibrate {name}` once."
        )


def attended(
    work: Work, node: str, question: str, sentences: Sequence[str], chunk_ids: tuple[str, ...] = ()
) -> tuple[float, ...]:
    """How much `question` looks at each sentence, comparable within this call; a step of the run.

    Raises `RunStopped`, and what `ScoresContext.score_context` raises.
    """
    engine = cast(ScoresContext, work.deps.engine)
    try:
        scores = engine.score_context(question, sentences, stop=work.deps.stop.is_set)
    except Stopped as error:
        raise RunStopped("The run was stopped.") from error
    usage = scores.usage
    work.deps.runs.step(
        StepRecord(
            run_id=work.run_id,
            sequence=0,
            node=node,
            chunk_ids=chunk_ids,
            attempt=1,
            prompt_tokens=usage.prompt_tokens,
            generated_tokens=0,
            cached_tokens=usage.cached_tokens,
            seconds=usage.seconds,
            status="done",
            error=None,
            created_at=datetime.now(UTC),
        )
    )
    return scores.units


def reranked(work: Work, node: str, spans: Sequence[SourceSpan]) -> list[EvidenceState]:
    """Sentences as evidence, in the order that attention, words and meaning give them together.

    Each of the three is divided by its best and they are added: of the ways tried this one found most (docs/agents.md).
    Some 25 sentences at a time; among many more, attention tells them apart less well than words do.
    """
    question, shelf = work.ask.question, work.deps.shelf
    asked = sorted(spans, key=lambda span: (span.document_id, span.start))
    scores = attended(work, node, question, [flat(span, shelf) for span in asked])
    most = max(scores, default=0.0) or 1.0
    drawn = {(span.document_id, span.start): score / most for span, score in zip(asked, scores, strict=True)}
    found = [
        EvidenceState(**{**item, "score": item["score"] + drawn.get((item["document_id"], item["start"]), 0.0) / 2})
        for item in weighed(work, question, asked, len(asked))
    ]
    return sorted(found, key=lambda item: -item["score"])


def flat(span: SourceSpan, shelf: Shelf) -> str:
    """A span's words on one line."""
    return " ".join(shelf.text(span.document_id).slice(Span(span.start, span.end)).split())
