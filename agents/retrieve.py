"""`retrieve`: search, let the model pick supporting sentences, check them, reason over the checked ones only.

After ALR2 (Li et al., 2024: retrieve, then reason) and Reasoning with Attributions (Berchansky et al., 2024), with
the check against the text that both leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.agents.call import call
from longleaf.agents.evidence import ENOUGH, adopt, candidates, checked, quote, reading
from longleaf.agents.prompt import load
from longleaf.agents.reader import Deps, QuoteFound, Reading, Wording
from longleaf.agents.state import PassageState, ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_CANDIDATES = 24
_EXTRACTED = 3
_EXTRACT_TOKENS = 64
_REASONED = 3


class Retrieve:
    """Reads the few passages that search finds. Answers from them alone, or says that nothing there answers."""

    name = "retrieve"
    prompts = ("extract", "reason")

    def build(self, deps: Deps, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(ReadState)
        graph.add_node("search", lambda state: _search(state, deps))
        graph.add_node("extract", lambda state: _extract(state, deps))
        graph.add_node("reason", lambda state: _reason(state, deps))
        graph.add_edge(START, "search")
        graph.add_conditional_edges("search", lambda state: "extract" if state["found"] else END, ["extract", END])
        graph.add_edge("extract", "reason")
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _search(state: ReadState, deps: Deps) -> ReadState:
    hits = deps.search.find(state["question"], state["document_ids"] or None)
    found = candidates(hits, _CANDIDATES)
    passages = [
        PassageState(chunk_id=hit.chunk_id, document_id=hit.document_id, start=hit.span.start, end=hit.span.end)
        for hit in hits.passages[: state["passages_wanted"]]
    ]
    return {
        "passages": passages,
        "candidates": found,
        "found": any(item["confidence"] >= ENOUGH for item in found[:3]),
    }


def _extract(state: ReadState, deps: Deps) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    prompt = load("extract")
    passages = state["passages"][:_EXTRACTED]
    requests = []
    for place, passage in enumerate(passages):
        characters = deps.shelf.text(passage["document_id"]).slice(Span(passage["start"], passage["end"])).strip()
        emit(Reading(place + 1, len(passages), deps.engine.count(characters)))
        requests.append(
            Request(
                f"passage-{place}",
                prompt.messages(passage=characters, question=state["question"]),
                Sampling(max_tokens=_EXTRACT_TOKENS, stop=("\n\n", '"\n'), seed=state["seed"]),
                prompt.prefix,
            )
        )
    chunks = {f"passage-{place}": (passage["chunk_id"],) for place, passage in enumerate(passages)}
    replies = call(deps, state["run_id"], "extract", requests, chunks)
    outcomes = [
        checked(replies[f"passage-{place}"].text, passage, state["passages"], deps.shelf)
        for place, passage in enumerate(passages)
    ]
    evidence = adopt(outcomes, state["candidates"], deps.shelf)[: state["quotes_wanted"]]
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    lost = sum(outcome.status == "missing" for outcome in outcomes)
    notes = (
        [f"{lost} of {len(outcomes)} sentences the model gave as quotes are not in the text; dropped"] if lost else []
    )
    return {"evidence": evidence, "notes": notes}


def _reason(state: ReadState, deps: Deps) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    prompt = load("reason")
    request = Request(
        "answer",
        prompt.messages(quotes=reading(state["evidence"][:_REASONED], deps.shelf), question=state["question"]),
        Sampling(max_tokens=state["answer_tokens"], stop=("\n\n",), seed=state["seed"]),
        prompt.prefix,
    )
    replies = call(
        deps,
        state["run_id"],
        "reason",
        [request],
        {},
        lambda _, piece: emit(Wording(piece)),
    )
    return {"wording": replies["answer"].text.strip()}
