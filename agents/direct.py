"""`direct`: the whole text in the window, or a refusal. The baseline that every other reader is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.agents.call import call
from longleaf.agents.evidence import candidates, quote
from longleaf.agents.prompt import Prompt, load
from longleaf.agents.reader import Deps, QuoteFound, Reading, Wording
from longleaf.agents.state import PassageState, ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.engine.errors import WindowExceeded

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_TEMPLATE_TOKENS = 64
"""Room for what a chat template adds around a prompt."""


class Direct:
    """Gives the model everything at once. The quotes are search's best sentences for the question and the answer."""

    name = "direct"
    prompts = ("direct",)

    def build(self, deps: Deps, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(ReadState)
        graph.add_node("read", lambda state: _read(state, deps))
        graph.add_node("support", lambda state: _support(state, deps))
        graph.add_edge(START, "read")
        graph.add_edge("read", "support")
        graph.add_edge("support", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _read(state: ReadState, deps: Deps) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    prompt = load("direct")
    chosen = state["document_ids"] or [document.id for document in deps.documents.list()]
    document = "\n\n".join(deps.shelf.text(key).characters.strip() for key in chosen)
    tokens = deps.engine.count(document)
    _refuse_if_too_long(tokens, prompt, state, deps)
    emit(Reading(1, 1, tokens))
    request = Request(
        "answer",
        prompt.messages(document=document, question=state["question"]),
        Sampling(max_tokens=state["answer_tokens"], stop=("\n\n",), seed=state["seed"]),
        prompt.prefix,
    )
    replies = call(deps, state["run_id"], "read", [request], {}, lambda _, piece: emit(Wording(piece)))
    passages = [PassageState(chunk_id="", document_id=key, start=0, end=len(deps.shelf.text(key))) for key in chosen]
    return {"wording": replies["answer"].text.strip(), "passages": passages}


def _refuse_if_too_long(tokens: int, prompt: Prompt, state: ReadState, deps: Deps) -> None:
    around = deps.engine.count(prompt.system + prompt.user + state["question"]) + _TEMPLATE_TOKENS
    needed = tokens + around + state["answer_tokens"]
    window = deps.engine.card.window
    if needed > window:
        raise WindowExceeded(
            f"The text has {tokens} tokens and the question with its answer needs {needed - tokens} more; the window "
            f"of {deps.engine.card.name} holds {window}. Use `--reader retrieve`, or a model with a longer window."
        )


def _support(state: ReadState, deps: Deps) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    hits = deps.search.find(f"{state['question']} {state['wording']}", state["document_ids"] or None)
    evidence = candidates(hits, state["quotes_wanted"])
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    return {"evidence": evidence, "found": bool(state["wording"] and evidence)}
