"""`chain`: workers read the parts in sequence and hand on a communication unit; the manager sees the last unit only.

After Chain of Agents (Zhang et al., 2024, arXiv 2406.02818). A unit is facts, with the sentences that hold them up, and
open questions. What a worker writes is checked before the next one sees it, as in `memory`: the guarded overwrite
(`overwrite.py`) keeps facts that a worker forgot and adds what it overlooked. The manager is given the checked facts
as the workers worded them; `memory`, by contrast, answers from the sentences behind them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from longleaf.agents import notebook
from longleaf.agents.evidence import quote, remembered
from longleaf.agents.notebook import NotebookState, Style
from longleaf.agents.overwrite import strengths
from longleaf.agents.part import Part, fingerprint, parts, same
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Wording, Work
from longleaf.agents.state import ReadState
from longleaf.agents.wording import sound, summarised, telling, worded
from longleaf.memory.records import MemoryLine, MemoryVersionRecord
from longleaf.retrieval.search import at_ends

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_STYLE = Style(
    node="worker",
    prompts={"answer": "chain", "summary": "chain_gist"},
    plain={"answer": "chain", "summary": "chain_gist"},
    writing={"answer": "chain_manager", "summary": "chain_summary"},
    questions=True,
)


class Chain:
    """Workers in sequence, a manager at the end; every call is short, whatever the length of the text."""

    name = "chain"
    about = "workers read every part in turn and hand on checked facts; a manager answers from the last hand-over"
    prompts = ("chain", "chain_gist", "chain_manager", "chain_summary")
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        return notebook.estimate(ask, parts(ask, deps), deps, _STYLE)

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        made = cache(lambda: parts(work.ask, work.deps))

        def after(state: NotebookState) -> str:
            return "worker" if state["ordinal"] < len(made()) else "manager"

        graph = StateGraph(NotebookState)
        graph.add_node("plan", lambda state: _plan(work, made()))
        graph.add_node("worker", lambda state: _worker(state, work, made()))
        graph.add_node("manager", lambda state: _manager(state, work))
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", after, ["worker", "manager"])
        graph.add_conditional_edges("worker", after, ["worker", "manager"])
        graph.add_edge("manager", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _plan(work: Work, made: list[Part]) -> NotebookState:
    notebook.check(work.ask, work.deps, _STYLE)
    return notebook.opened(fingerprint(made))


def _worker(state: NotebookState, work: Work, made: list[Part]) -> NotebookState:
    from langgraph.config import get_stream_writer

    same(made, state["fingerprint"])
    return notebook.turn(state, work, _STYLE, made, get_stream_writer())


def _manager(state: NotebookState, work: Work) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask, deps = work.ask, work.deps
    version = deps.versions.get(work.run_id, state["version"])
    notes = [*state["notes"], *notebook.notes(state, version)]
    prompt = _STYLE.writing[ask.options.task]
    if version is None or not sound(version):
        return {"found": False, "notes": notes}
    if ask.options.task == "summary":
        unit = "\n".join(line.text for line in sound(version))
        wording = worded(work, "manager", "summary", prompt, lambda _, piece: emit(Wording(piece)), unit=unit)
        return summarised(work, wording, version, notes)
    evidence = telling(work, remembered(work))
    if not evidence:
        return {"found": False, "notes": notes}
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    unit = _unit(_ranked(work, version))
    wording = worded(work, "manager", "answer", prompt, lambda _, piece: emit(Wording(piece)), unit=unit)
    return {"found": True, "evidence": evidence, "wording": wording, "notes": notes}


def _ranked(work: Work, version: MemoryVersionRecord) -> list[MemoryLine]:
    lines = sound(version)
    strength = strengths(work, [span for line in lines for span in line.spans])
    return sorted(lines, key=lambda line: -max(strength.get(span, 0.0) for span in line.spans))


def _unit(ranked: list[MemoryLine]) -> str:
    """The checked facts of a unit, the strongest at the ends and the best one last, where a small model looks most."""
    rest = [line.text for line in at_ends(ranked) if line is not ranked[0]]
    return "\n".join([ranked[0].text, *rest, ranked[0].text] if rest else [ranked[0].text])
