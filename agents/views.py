"""What an answer is made from where little of the text speaks to it: checked quotes, and the passages they stand in."""

from __future__ import annotations

from collections.abc import Sequence

from longleaf.agents.evidence import around, reading, reading_passages, several_names
from longleaf.agents.examples import examples
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Work
from longleaf.agents.reason import View, resting, surest, weighs
from longleaf.agents.state import EvidenceState, PassageState, ReadState
from longleaf.memory.records import SourceSpan

PASSAGE_TOKENS = 300
"""Tokens of a chunk by most models' count; chunks are cut by the embedder's."""

_EXAMPLES = 3
_REASONED, _NEIGHBOURS = 3, 1
_WIDELY_REASONED, _WIDELY = 4, 3
"""Quotes to reason over and sentences on either side of each; the latter for questions of several names, whose answer
takes two places more often than one. Chosen on 64 questions of HotpotQA; docs/benchmarks.md has what it is worth."""

_SURE, _WIDELY_SURE = -6.0, -10.0
"""The lead of a denial below which the answer from quotes stands without asking about the passages, which would cost a
laptop some seconds; the latter for questions of several names. docs/benchmarks.md has what it is worth."""


def answered(work: Work, evidence: Sequence[EvidenceState], passages: Sequence[PassageState]) -> ReadState:
    """The answer from quotes or, where they leave it open, from passages, each the best first; and its evidence.

    For a node: it emits `Wording`, and `QuoteFound` for a sentence that is quoted for the wording's sake. Raises as
    `call` does.
    """
    shelf = work.deps.shelf
    wide = bool(several_names(work.ask.question))
    count, neighbours = (_WIDELY_REASONED, _WIDELY) if wide else (_REASONED, _NEIGHBOURS)
    shown = evidence[:count]
    quotes, notes = examples(work, reading(shown, shelf, neighbours), [_span(each) for each in passages[:_EXAMPLES]])
    views = [View(quotes, around(shown, shelf, neighbours))]
    if weighs(work.ask, work.deps):
        fitting = _fitting(passages, evidence[0], work)
        told = reading_passages(fitting, evidence[0], shelf)
        views.append(View(told, [_span(each) for each in fitting], tuple(each["chunk_id"] for each in fitting)))
    wording, view = surest(work, views, _WIDELY_SURE if wide else _SURE)
    return {"wording": wording, "evidence": resting(work, wording, evidence, view.read), "notes": notes}


def sizes(ask: Ask, deps: Deps) -> list[int]:
    """Tokens of each view that `answered` may ask about, at most."""
    quotes = _WIDELY_REASONED * PASSAGE_TOKENS if several_names(ask.question) else _REASONED * PASSAGE_TOKENS // 2
    return [quotes, ask.budget.passages * PASSAGE_TOKENS] if weighs(ask, deps) else [quotes]


def _span(passage: PassageState) -> SourceSpan:
    return SourceSpan(passage["document_id"], passage["start"], passage["end"])


def _fitting(passages: Sequence[PassageState], best: EvidenceState, work: Work) -> Sequence[PassageState]:
    """As many of the passages, the best first, as the window holds beside prompt and answer; one at least."""
    engine, ask = work.deps.engine, work.ask
    room = engine.card.window - engine.count(load("reason").frame(ask.question)) - ask.budget.answer_tokens
    kept = passages
    while len(kept) > 1 and engine.count(reading_passages(kept, best, work.deps.shelf)) > room:
        kept = kept[:-1]
    return kept
