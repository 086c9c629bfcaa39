"""`direct`: the whole text in the window, or a refusal. The baseline that every other reader is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.agents.call import call
from longleaf.agents.denial import denied
from longleaf.agents.evidence import candidates, quote
from longleaf.agents.examples import examples
from longleaf.agents.part import chosen_documents
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Wording, Work
from longleaf.agents.reason import asked
from longleaf.agents.state import ReadState
from longleaf.engine.errors import WindowExceeded
from longleaf.memory.records import SourceSpan

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_TEMPLATE_TOKENS = 64
"""Room for what a chat template adds around a prompt."""


class Direct:
    """Gives the model everything at once. The quotes are search's best sentences for the question and the answer."""

    name = "direct"
    about = "gives the model the whole text at once, where it fits the window"
    prompts = ("direct",)
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        tokens = deps.engine.count(_document(ask, deps)[0])
        return Estimate(1, tokens + _around(ask, deps), ask.budget.answer_tokens)

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(ReadState)
        graph.add_node("read", lambda state: _read(work))
        graph.add_node("support", lambda state: _support(state, work))
        graph.add_edge(START, "read")
        graph.add_edge("read", "support")
        graph.add_edge("support", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _document(ask: Ask, deps: Deps) -> tuple[str, tuple[str, ...]]:
    """The text of all documents of a question, and the ids of its chunks."""
    chosen = chosen_documents(ask, deps)
    characters = "\n\n".join(deps.shelf.text(document.id).characters.strip() for document in chosen)
    return characters, tuple(chunk.id for document in chosen for chunk in deps.documents.chunks(document.id))


def _around(ask: Ask, deps: Deps) -> int:
    return deps.engine.count(load("direct").frame(ask.question)) + _TEMPLATE_TOKENS


def _read(work: Work) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    document, chunk_ids = _document(ask, deps)
    tokens = deps.engine.count(document)
    _refuse_if_too_long(tokens, ask, deps)
    emit(Reading(1, 1, tokens))
    shown, notes = _with_examples(document, work)
    request = asked(work, "direct", document=shown)
    replies = call(work, "read", [request], {"answer": chunk_ids}, lambda _, piece: emit(Wording(piece)))
    return {"wording": replies["answer"].text.strip(), "notes": notes}


def _with_examples(document: str, work: Work) -> tuple[str, list[str]]:
    """The text and the examples behind it, without them where they do not fit."""
    deps, ask = work.deps, work.ask
    whole = [SourceSpan(item.id, 0, item.characters) for item in chosen_documents(ask, deps)]
    shown, notes = examples(work, document, whole)
    needed = deps.engine.count(shown) + _around(ask, deps) + ask.budget.answer_tokens
    if needed <= deps.engine.card.window:
        return shown, notes
    return document, [*notes, "the examples left no room for the answer and were not shown"]


def _refuse_if_too_long(tokens: int, ask: Ask, deps: Deps) -> None:
    needed = tokens + _around(ask, deps) + ask.budget.answer_tokens
    window = deps.engine.card.window
    if needed > window:
        raise WindowExceeded(
            f"The text has {tokens} tokens and the question with its answer needs {needed - tokens} more; the window "
            f"of {deps.engine.card.name} holds {window}. Use `--reader retrieve`, or a model with a longer window."
        )


def _support(state: ReadState, work: Work) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask = work.ask
    said = "" if denied(state["wording"]) else state["wording"]
    hits = work.deps.search.find(f"{ask.question} {said}".strip(), ask.document_ids or None)
    evidence = candidates(hits, ask.budget.quotes)
    for item in evidence:
        emit(QuoteFound(quote(item, work.deps.shelf)))
    return {"evidence": evidence, "found": bool(state["wording"] and evidence)}
