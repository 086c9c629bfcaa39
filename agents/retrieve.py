"""`retrieve`: search, let the model pick supporting sentences, check them, reason over the checked ones only.

After ALR2 (Li et al., 2024: retrieve, then reason) and Reasoning with Attributions (Berchansky et al., 2024), with
the check against the text that both leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from longleaf.agents.attend import can_attend, reranked
from longleaf.agents.call import call
from longleaf.agents.denial import quotes_nothing
from longleaf.agents.evidence import (
    adopt,
    around,
    candidates,
    checked,
    covering,
    enough,
    invented,
    quote,
    reading,
    reading_passages,
    several_names,
)
from longleaf.agents.examples import examples
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Work
from longleaf.agents.reason import View, resting, surest, weighs
from longleaf.agents.state import EvidenceState, PassageState, ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_CANDIDATES = 24
_EXTRACTED = 3
_EXTRACT_TOKENS = 64
_REASONED, _NEIGHBOURS = 3, 1
_WIDELY_REASONED, _WIDELY = 4, 3
"""Quotes to reason over and sentences on either side of each; the latter for questions of several names, whose answer
takes two places more often than one. Chosen on 64 questions of HotpotQA; docs/benchmarks.md has what it is worth."""

_SURE, _WIDELY_SURE = -6.0, -10.0
"""The lead of a denial below which the answer from quotes stands without asking about the passages, which would cost a
laptop some seconds; the latter for questions of several names. docs/benchmarks.md has what it is worth."""

_SENTENCE_TOKENS = 60
_PASSAGE_TOKENS = 300
"""Tokens of a chunk by most models' count; chunks are cut by the embedder's."""


class Retrieve:
    """Reads the few passages that search finds. Answers from them alone, or says that nothing there answers."""

    name = "retrieve"
    about = "searches, checks the sentences that answer, and answers from them alone"
    prompts = ("extract", "reason")
    whole = False

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        frames = sum(deps.engine.count(load(name).frame(ask.question)) for name in self.prompts)
        most = min(_EXTRACTED, ask.budget.passages)
        rerank = ask.options.rerank and can_attend(deps)
        quotes = _WIDELY_REASONED * _PASSAGE_TOKENS if several_names(ask.question) else _REASONED * _PASSAGE_TOKENS // 2
        views = [quotes, ask.budget.passages * _PASSAGE_TOKENS] if weighs(ask, deps) else [quotes]
        prompt = most * _PASSAGE_TOKENS + sum(views) + (most + len(views)) * frames
        if rerank:
            prompt += _CANDIDATES * _SENTENCE_TOKENS
        told = most * _EXTRACT_TOKENS + len(views) * ask.budget.answer_tokens
        return Estimate(most + len(views) + rerank, prompt, told, "none if search finds nothing")

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(ReadState)
        graph.add_node("search", lambda state: _search(state, work))
        graph.add_node("extract", lambda state: _extract(state, work))
        graph.add_node("reason", lambda state: _reason(state, work))
        graph.add_edge(START, "search")
        graph.add_conditional_edges("search", lambda state: "extract" if state["found"] else END, ["extract", END])
        graph.add_edge("extract", "reason")
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _search(state: ReadState, work: Work) -> ReadState:
    ask = work.ask
    hits = work.deps.search.find(ask.question, ask.document_ids or None)
    found = candidates(hits, _CANDIDATES)
    notes = list(state["notes"])
    if ask.options.rerank and found:
        if can_attend(work.deps):
            spans = [SourceSpan(item["document_id"], item["start"], item["end"]) for item in found]
            found = reranked(work, "rerank", spans)
        else:
            notes.append(f"not reranked: {work.deps.engine.card.name} gives no attention scores")
    passages = [
        PassageState(chunk_id=hit.chunk_id, document_id=hit.document_id, start=hit.span.start, end=hit.span.end)
        for hit in hits.passages[: ask.budget.passages]
    ]
    return {
        "passages": passages,
        "candidates": found,
        "found": enough(found),
        "notes": notes,
    }


def _extract(state: ReadState, work: Work) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    prompt = load("extract")
    passages = state["passages"][:_EXTRACTED]
    requests = []
    for place, passage in enumerate(passages):
        characters = deps.shelf.text(passage["document_id"]).slice(Span(passage["start"], passage["end"])).strip()
        emit(Reading(place + 1, len(passages), deps.engine.count(characters)))
        requests.append(
            Request(
                f"passage-{place}",
                prompt.messages(passage=characters, question=ask.question),
                Sampling(max_tokens=_EXTRACT_TOKENS, stop=("\n\n", '"\n'), seed=ask.seed),
                prompt.prefix,
            )
        )
    chunks = {f"passage-{place}": (passage["chunk_id"],) for place, passage in enumerate(passages)}
    replies = call(work, "extract", requests, chunks)
    told = [(replies[f"passage-{place}"].text, passage) for place, passage in enumerate(passages)]
    outcomes = [
        checked(reply, passage, state["passages"], deps.shelf) for reply, passage in told if not quotes_nothing(reply)
    ]
    evidence = covering(adopt(outcomes, state["candidates"], deps.shelf), ask.question, deps.shelf)[: ask.budget.quotes]
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    notes = invented(outcomes)
    return {"evidence": evidence, "notes": state["notes"] + notes}


def _reason(state: ReadState, work: Work) -> ReadState:
    shelf, evidence, passages = work.deps.shelf, state["evidence"], state["passages"]
    wide = bool(several_names(work.ask.question))
    count, neighbours = (_WIDELY_REASONED, _WIDELY) if wide else (_REASONED, _NEIGHBOURS)
    shown = evidence[:count]
    spans = [_span(each) for each in passages[:_EXTRACTED]]
    quotes, notes = examples(work, reading(shown, shelf, neighbours), spans)
    views = [View(quotes, around(shown, shelf, neighbours))]
    if weighs(work.ask, work.deps):
        fitting = _fitting(passages, evidence[0], work)
        told = reading_passages(fitting, evidence[0], shelf)
        views.append(View(told, [_span(each) for each in fitting], tuple(each["chunk_id"] for each in fitting)))
    wording, view = surest(work, views, _WIDELY_SURE if wide else _SURE)
    return {
        "wording": wording,
        "evidence": resting(work, wording, evidence, view.read),
        "notes": state["notes"] + notes,
    }


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
