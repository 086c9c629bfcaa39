"""`retrieve`: search, let the model pick supporting sentences, check them, reason over the checked ones only.

After ALR2 (Li et al., 2024: retrieve, then reason) and Reasoning with Attributions (Berchansky et al., 2024), with
the check against the text that both leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.agents.attend import can_attend, reranked
from longleaf.agents.call import call
from longleaf.agents.denial import quotes_nothing
from longleaf.agents.evidence import (
    adopt,
    candidates,
    checked,
    covering,
    enough,
    invented,
    quote,
    to_read,
)
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Work
from longleaf.agents.state import ReadState
from longleaf.agents.views import PASSAGE_TOKENS, answered, sizes
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_CANDIDATES = 24
_EXTRACTED = 3
_EXTRACT_TOKENS = 64
_SENTENCE_TOKENS = 60


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
        views = sizes(ask, deps)
        prompt = most * PASSAGE_TOKENS + sum(views) + (most + len(views)) * frames
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
    return {
        "passages": to_read(hits, ask.budget.passages),
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
    answer = answered(work, state["evidence"], state["passages"])
    return {**answer, "notes": state["notes"] + answer["notes"]}
