"""`memory`: part by part, with a memory under a token budget that each part overwrites; the answer from memory alone.

After MemAgent (Yu et al., 2025, arXiv 2507.02259), whose model is trained to overwrite well. Ours is not, so the
overwrite is guarded (`overwrite.py`): the model proposes, code checks each line, keeps what the reply forgot and adds
what it overlooked, and the question decides what fills the budget. Every version is stored with its diff and with the
spans behind each line, so an answer can be had at any time, and what the memory knew when can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from longleaf.agents import notebook
from longleaf.agents.call import skip
from longleaf.agents.evidence import quote, remembered
from longleaf.agents.gate import ALONE, BOTH, attended, judged
from longleaf.agents.notebook import NotebookState, Style
from longleaf.agents.part import Part, fingerprint, parts, same
from longleaf.agents.reader import Ask, Deps, Estimate, Partial, QuoteFound, Skipped, Wording, Work
from longleaf.agents.state import PassageState, ReadState
from longleaf.agents.wording import recollection, sound, summarised, telling, worded

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

SURE = 0.6
"""Least confidence of the memory's best sentence for `stop_when_sure`: well above what is enough for an answer."""

_SURE_AFTER = 3
"""Parts for which that sentence must have stayed the best."""

_STYLE = Style(
    node="read",
    prompts={"answer": "memory", "summary": "memory_gist"},
    plain={"answer": "memory_plain", "summary": "memory_gist_plain"},
    writing={"answer": "reason", "summary": "memory_summary"},
)
_UNSCORED = "the model's attention could not be asked about every part: search alone judged the others"


class MemoryState(NotebookState, total=False):
    """`open` are the parts that the gate lets through unasked, `reference` what it compares the others with.

    `best` names the memory's best sentence, which was the best after the last `stayed` parts.
    """

    open: list[int]
    reference: PassageState
    attention: bool
    best: str
    stayed: int


class Memory:
    """Reads everything in order with a memory of bounded size, whatever the length."""

    name = "memory"
    about = "reads every part with a memory under a budget, which the question fills; answers from the memory alone"
    prompts = ("memory", "memory_gist", "memory_plain", "memory_gist_plain", "memory_summary", "reason")
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        made = parts(ask, deps)
        cost = notebook.estimate(ask, made, deps, _STYLE)
        every = ask.options.provisional_every
        extra = (len(made) - 1) // every if every and made else 0
        note = "less where the gate skips parts, or the reader is sure early" if _may_leave_out(ask) else ""
        return Estimate(
            cost.calls + extra,
            cost.prompt_tokens + extra * 2 * ask.budget.memory_tokens,
            cost.generated_tokens + extra * notebook.answer_tokens(ask),
            note,
        )

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        made = cache(lambda: parts(work.ask, work.deps))
        graph = StateGraph(MemoryState)
        graph.add_node("plan", lambda state: _plan(state, work, made()))
        graph.add_node("read", lambda state: _read(state, work, made()))
        graph.add_node("provisional", lambda state: _provisional(state, work))
        graph.add_node("answer", lambda state: _answer(state, work))
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", _after(work, made, False), ["read", "answer"])
        graph.add_conditional_edges("read", _after(work, made, True), ["read", "provisional", "answer"])
        graph.add_edge("provisional", "read")
        graph.add_edge("answer", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _may_leave_out(ask: Ask) -> bool:
    return ask.options.gate or ask.options.stop_when_sure


def _after(work: Work, made: Callable[[], list[Part]], read: bool) -> Callable[[MemoryState], str]:
    def chosen(state: MemoryState) -> str:
        every = work.ask.options.provisional_every
        if state.get("ended") or state["ordinal"] >= len(made()):
            return "answer"
        return "provisional" if read and every and state["ordinal"] % every == 0 else "read"

    return chosen


def _plan(state: MemoryState, work: Work, made: Sequence[Part]) -> MemoryState:
    notebook.check(work.ask, work.deps, _STYLE)
    begun = cast(MemoryState, notebook.opened(fingerprint(made)))
    begun["best"], begun["stayed"] = "", 0
    if work.ask.options.gate and work.ask.options.task == "answer":
        gate = judged(work, made)
        if gate.reference is not None:
            begun["open"], begun["reference"], begun["attention"] = list(gate.open), gate.reference, gate.attention
        begun["notes"] = [*state["notes"], *([gate.note] if gate.note else [])]
    return begun


def _read(state: MemoryState, work: Work, made: Sequence[Part]) -> MemoryState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    same(made, state["fingerprint"])
    part = made[state["ordinal"]]
    if "open" in state and part.ordinal not in state["open"]:
        asked = _asked(state, work, part)
        if asked is not True:
            why = BOTH if asked is False else ALONE
            skip(work, "read", part.chunk_ids, why)
            emit(Skipped(part.ordinal + 1, len(made), why))
            passed: MemoryState = {"ordinal": part.ordinal + 1}
            if asked is None and state["attention"] and _UNSCORED not in state["notes"]:
                passed["notes"] = [*state["notes"], _UNSCORED]
            return passed
    after = cast(MemoryState, notebook.turn(state, work, _STYLE, made, emit))
    if work.ask.options.stop_when_sure and work.ask.options.task == "answer":
        after.update(_surer(state, work))
    return after


def _asked(state: MemoryState, work: Work, part: Part) -> bool | None:
    return attended(work, part, state["reference"]) if state["attention"] else None


def _surer(state: MemoryState, work: Work) -> MemoryState:
    """How long the memory's best sentence has been that, and whether this is long enough to stop."""
    evidence = remembered(work)
    if not evidence or evidence[0]["confidence"] < SURE:
        return {"best": "", "stayed": 0}
    best = f"{evidence[0]['document_id'][:12]}:{evidence[0]['start']}"
    stayed = state["stayed"] + 1 if best == state["best"] else 1
    changed: MemoryState = {"best": best, "stayed": stayed}
    if stayed >= _SURE_AFTER:
        changed["ended"] = f"sure of the answer: the best sentence stayed the same for {stayed} parts"
    return changed


def _provisional(state: MemoryState, work: Work) -> MemoryState:
    from langgraph.config import get_stream_writer

    from longleaf.agents.provisional import so_far

    get_stream_writer()(Partial(so_far(work, f"provisional-{state['ordinal']}")))
    return {"ordinal": state["ordinal"]}


def _answer(state: MemoryState, work: Work) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps = work.deps
    version = deps.versions.get(work.run_id, state["version"])
    notes = [*state["notes"], *notebook.notes(state, version)]
    if work.ask.options.task == "summary":
        if version is None or not sound(version):
            return {"found": False, "notes": notes}
        lines = "\n".join(line.text for line in sound(version))
        wording = worded(
            work, "answer", "summary", _STYLE.writing["summary"], lambda _, piece: emit(Wording(piece)), notes=lines
        )
        return summarised(work, wording, version, notes)
    evidence = telling(work, remembered(work))
    if version is None or not evidence:
        return {"found": False, "notes": notes}
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    wording = worded(
        work,
        "answer",
        "answer",
        _STYLE.writing["answer"],
        lambda _, piece: emit(Wording(piece)),
        quotes=recollection(work, version),
    )
    return {"found": True, "evidence": evidence, "wording": wording, "notes": notes}
