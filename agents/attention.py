"""`attention`: the model's own attention picks the sentences, window by window, for documents of any length.

After InfiniRetri (Ye et al., 2025, arXiv 2502.12962): each window is scored by the attention that the question pays to
it, and the best sentences are carried whole into the next window, so that in the end the best of the document stand
beside each other. As in GemFilter (Shi et al., 2024) the answer is then read from the chosen sentences alone, and as
in Attention Sorting (Peysakhovich and Lerer, 2023) the most attended stands last. Which heads are asked decides
everything; `longleaf models calibrate` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from longleaf.agents.attend import attended, flat, refuse_unless_it_attends, reranked
from longleaf.agents.evidence import around, enough, quote, reading
from longleaf.agents.part import Part, fingerprint, parts, same
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Work
from longleaf.agents.reason import reasoned, resting
from longleaf.agents.state import EvidenceState, ReadState
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.shelf import Shelf

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_PARTS_AT_ONCE = 3
"""A window holds as many parts: nothing is written about it, so it may be wider than what the model reads."""

_CARRIED = 20
_REASONED = 3
_FRAME_TOKENS = 64


class AttentionState(ReadState, total=False):
    """`window` is the next one to score; `carried` are the best sentences so far, in reading order."""

    fingerprint: str
    window: int
    carried: list[tuple[str, int, int]]


class Attention:
    """Scores every sentence of the documents; answers from those that the question looked at most."""

    name = "attention"
    about = "asks the model's own attention which sentences matter, over any length; answers from those"
    prompts = ("reason",)
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        made = _windows(ask, deps)
        around = _wide(ask, deps) // 2 + deps.engine.count(ask.question) + _FRAME_TOKENS
        prompt = sum(part.tokens for part in made) + (len(made) + 2) * around
        return Estimate(len(made) + 2, prompt, ask.budget.answer_tokens, "windows are scored, which writes nothing")

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        made = cache(lambda: _windows(work.ask, work.deps))
        graph = StateGraph(AttentionState)
        graph.add_node("plan", lambda state: _plan(work, made()))
        graph.add_node("scan", lambda state: _scan(state, work, made()))
        graph.add_node("choose", lambda state: _choose(state, work))
        graph.add_node("reason", lambda state: _reason(state, work))
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "scan")
        graph.add_conditional_edges("scan", _more(made), ["scan", "choose"])
        graph.add_conditional_edges("choose", lambda state: "reason" if state["found"] else END, ["reason", END])
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _wide(ask: Ask, deps: Deps) -> int:
    """Tokens of a window's own text: some parts, within a third of what the model holds. Half as much is carried."""
    return max(16, min(_PARTS_AT_ONCE * ask.budget.part_tokens, deps.engine.card.window // 3))


def _windows(ask: Ask, deps: Deps) -> list[Part]:
    return parts(replace(ask, budget=replace(ask.budget, part_tokens=_wide(ask, deps))), deps)


def _more(made: Callable[[], list[Part]]) -> Callable[[AttentionState], str]:
    return lambda state: "scan" if state["window"] < len(made()) else "choose"


def _plan(work: Work, made: Sequence[Part]) -> AttentionState:
    refuse_unless_it_attends(work.deps)
    return {"fingerprint": fingerprint(made), "window": 0, "carried": []}


def _scan(state: AttentionState, work: Work, made: Sequence[Part]) -> AttentionState:
    """Score one window together with what is carried, and carry the best of both on."""
    from langgraph.config import get_stream_writer

    same(made, state["fingerprint"])
    if not made:
        return {"window": 1}
    window = made[state["window"]]
    get_stream_writer()(Reading(window.ordinal + 1, len(made), window.tokens))
    shelf = work.deps.shelf
    # What was carried stands in front, where it stood in the text: reading order is kept.
    spans = [SourceSpan(*span) for span in state["carried"]] + _sentences(window, shelf)
    scores = attended(work, "scan", work.ask.question, [flat(span, shelf) for span in spans], window.chunk_ids)
    best = sorted(range(len(spans)), key=lambda place: -scores[place])[:_CARRIED]
    kept = _within(best, spans, _wide(work.ask, work.deps) // 2, work)
    return {
        "window": window.ordinal + 1,
        "carried": [(spans[place].document_id, spans[place].start, spans[place].end) for place in sorted(kept)],
    }


def _within(best: Sequence[int], spans: Sequence[SourceSpan], limit: int, work: Work) -> list[int]:
    """The first of `best` that fit the token limit together; always one."""
    kept: list[int] = []
    size = 0
    for place in best:
        size += work.deps.engine.count(flat(spans[place], work.deps.shelf))
        if kept and size > limit:
            break
        kept.append(place)
    return kept


def _sentences(part: Part, shelf: Shelf) -> list[SourceSpan]:
    characters = shelf.text(part.document_id).characters
    spans = (trimmed(characters, span) for span in sentences(characters, part.span))
    return [SourceSpan(part.document_id, span.start, span.end) for span in spans if len(span) > 1]


def _choose(state: AttentionState, work: Work) -> ReadState:
    """Order what is left by attention, words and meaning together: each misses what another finds."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    spans = [SourceSpan(*span) for span in state["carried"]]
    if not spans:
        return {"found": False}
    evidence = [EvidenceState(**{**item, "by": "model"}) for item in reranked(work, "choose", spans)]
    found = enough(evidence)
    evidence = evidence[: work.ask.budget.quotes]
    if found:
        for item in evidence:
            emit(QuoteFound(quote(item, work.deps.shelf)))
    return {"found": found, "evidence": evidence}


def _reason(state: AttentionState, work: Work) -> ReadState:
    shelf, evidence = work.deps.shelf, state["evidence"]
    shown = evidence[:_REASONED]
    wording = reasoned(work, reading(shown, shelf))
    return {"wording": wording, "evidence": resting(work, wording, evidence, around(shown, shelf))}
