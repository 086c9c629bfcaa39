"""`structured`: reads part by part with a typed memory that the model edits, a little at a time.

After PRISM (Jayalath et al., 2024, arXiv:2412.18914): the memory has a schema, chosen for the task or made by the
model, and a reply is a few edits instead of a new memory, held to the schema by constrained decoding. Every entry rests
on sentences of the text, found by code, and the answer is worded from the entries and the best of those sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from longleaf.agents.call import call
from longleaf.agents.entries import Entry, edited, entries
from longleaf.agents.evidence import enough, quote, reading, weighed
from longleaf.agents.form import (
    EDITS,
    GENERATED,
    Form,
    described,
    edit_schema,
    edits,
    form,
    form_schema,
    generated,
    plain,
    restored,
)
from longleaf.agents.part import Part, chosen_documents, fingerprint, fits, parts, same
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Estimate, MemoryChanged, QuoteFound, Reading, Wording, Work
from longleaf.agents.reason import asked
from longleaf.agents.state import ClaimState, EvidenceState, ReadState
from longleaf.engine.contract import Grammar, Request, Sampling
from longleaf.memory.records import SourceSpan

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_EDIT_TOKENS = 64
_FORM_TOKENS = 120
_REASONED = 3

Parts = Callable[[], list[Part]]


class StructuredState(ReadState, total=False):
    """How far the reading is: the next part, the memory's version, and the form, which comes from the question alone.

    `told` edits were proposed, `unheld` of them turned away; `unread` replies held no edits at all.
    """

    fingerprint: str
    form: list[list[str]]
    part: int
    version: int
    told: int
    unheld: int
    unread: int


class Structured:
    """Reads everything. Its memory says what each person, event, figure or topic is, and where that stands."""

    name = "structured"
    about = "reads part by part and keeps a table of people, events, figures or facts, each with where it stands"
    prompts = ("structured", "structured_form", "structured_answer", "structured_summary")
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        made = parts(ask, deps)
        around = _around(ask, deps, form(ask.options.schema, ask.question, ask.options.task))
        prompt = sum(part.tokens for part in made) + (len(made) + 1) * (around + ask.budget.memory_tokens)
        reply = len(made) * EDITS * _EDIT_TOKENS + ask.budget.answer_tokens
        made_form = ask.options.schema == GENERATED
        return Estimate(
            len(made) + 1 + made_form,
            prompt + made_form * deps.engine.count(load("structured_form").user),
            reply + made_form * _FORM_TOKENS,
            "no answering call if nothing speaks to the question",
        )

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        made = cache(lambda: parts(work.ask, work.deps))

        def more(state: StructuredState) -> str:
            return "read" if state["part"] < len(made()) else "answer"

        graph = StateGraph(StructuredState)
        graph.add_node("form", lambda state: _form(work, made))
        graph.add_node("read", lambda state: _read(state, work, made))
        graph.add_node("answer", lambda state: _answer(state, work))
        graph.add_edge(START, "form")
        graph.add_conditional_edges("form", more, ["read", "answer"])
        graph.add_conditional_edges("read", more, ["read", "answer"])
        graph.add_edge("answer", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _form(work: Work, made: Parts) -> StructuredState:
    ask = work.ask
    chosen = form(ask.options.schema, ask.question, ask.options.task)
    notes: list[str] = []
    if ask.options.schema == GENERATED:
        prompt = load("structured_form")
        request = Request(
            "form",
            prompt.messages(question=ask.question),
            Sampling(max_tokens=_FORM_TOKENS, seed=ask.seed, grammar=_grammar(work, form_schema())),
        )
        own = generated(call(work, "form", [request])["form"].text)
        if own is None:
            notes = [f"the model made no schema that can be used; the memory has the one for {chosen.name}"]
        chosen = own or chosen
    fits(ask, work.deps, _frame(ask, chosen), EDITS * _EDIT_TOKENS + ask.budget.memory_tokens)
    return {
        "fingerprint": fingerprint(made()),
        "form": plain(chosen),
        "part": 0,
        "version": 0,
        "told": 0,
        "unheld": 0,
        "unread": 0,
        "notes": notes,
    }


def _read(state: StructuredState, work: Work, made: Parts) -> StructuredState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    all_parts = made()
    same(all_parts, state["fingerprint"])
    part = all_parts[state["part"]]
    chosen = restored(state["form"])
    before = deps.versions.get(work.run_id, state["version"])
    emit(Reading(part.ordinal + 1, len(all_parts), part.tokens))
    request = Request(
        f"part-{part.ordinal}",
        load("structured").messages(
            question=ask.question,
            fields=described(chosen),
            memory=before.text if before and before.text else "none yet",
            part=part.characters(deps.shelf),
        ),
        Sampling(max_tokens=EDITS * _EDIT_TOKENS, seed=ask.seed, grammar=_grammar(work, edit_schema(chosen))),
    )
    reply = call(work, "read", [request], {request.id: part.chunk_ids})[request.id]
    proposed = edits(reply.text, chosen)
    after = edited(work, "read", before, part, proposed or [], chosen, _offsets(ask, deps))
    version = state["version"]
    if entries(after) != entries(before) or any(line.out for line in after.lines):
        deps.versions.put(after)
        version = after.sequence
        if after.added or after.dropped:
            emit(MemoryChanged(version, part.ordinal + 1, len(all_parts), after.added, after.dropped, after.tokens))
    return {
        "part": state["part"] + 1,
        "version": version,
        "told": state["told"] + len(proposed or []),
        "unheld": state["unheld"] + sum(line.mark == "unsupported" for line in after.lines),
        "unread": state["unread"] + (proposed is None),
    }


def _answer(state: StructuredState, work: Work) -> StructuredState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    memory = deps.versions.get(work.run_id, state["version"])
    held = entries(memory)
    evidence = _evidence(work, held)
    notes = [*state["notes"], *_notes(state)]
    summary = ask.options.task == "summary"
    if memory is None or not _speaks(evidence, summary):
        return {"found": False, "evidence": [], "notes": notes}
    for item in evidence:
        emit(QuoteFound(quote(item, deps.shelf)))
    quotes = reading(evidence[:_REASONED], deps.shelf)
    request = asked(work, "structured_summary" if summary else "structured_answer", memory=memory.text, quotes=quotes)
    replies = call(work, "answer", [request], on_token=lambda _, piece: emit(Wording(piece)))
    return {
        "found": True,
        "evidence": evidence,
        "claims": _claims(work, held, summary),
        "wording": replies["answer"].text.strip(),
        "notes": notes,
    }


def _evidence(work: Work, held: Sequence[Entry]) -> list[EvidenceState]:
    """The sentences behind the entries, best first; those behind an entry of the model's are its choice."""
    spans = dict.fromkeys(span for entry in held for span in entry.spans)
    found = weighed(work, work.ask.question, spans, work.ask.budget.quotes)
    return _by_model(found, {span for entry in held if entry.by == "model" for span in entry.spans})


def _by_model(found: Sequence[EvidenceState], own: Collection[SourceSpan]) -> list[EvidenceState]:
    return [{**item, "by": "model"} if _span(item) in own else item for item in found]


def _span(item: EvidenceState) -> SourceSpan:
    return SourceSpan(item["document_id"], item["start"], item["end"])


def _claims(work: Work, held: Sequence[Entry], summary: bool) -> list[ClaimState]:
    """The entries that speak to the question, as claims of their own: at most as many as quotes are shown."""
    claims: list[ClaimState] = []
    for entry in held:
        if entry.by == "model" and len(claims) < work.ask.budget.quotes:
            behind = _by_model(weighed(work, work.ask.question, entry.spans, 2), entry.spans)
            if _speaks(behind, summary):
                claims.append(ClaimState(about=f"{entry.field}: {entry.key}", text=entry.value, evidence=behind))
    return claims


def _speaks(evidence: Sequence[EvidenceState], summary: bool) -> bool:
    return bool(evidence) if summary else enough(evidence)


def _notes(state: StructuredState) -> list[str]:
    notes: list[str] = []
    if state["unheld"]:
        notes.append(
            f"{state['unheld']} of {state['told']} notes that the model took stand in no sentence it read; dropped"
        )
    if state["unread"]:
        notes.append(f"{state['unread']} of {state['part']} replies held no notes in the schema's form")
    return notes


def _grammar(work: Work, schema: dict[str, Any]) -> Grammar | None:
    """Held to the schema where the engine can; elsewhere code takes from a reply what meets it."""
    return Grammar.json_schema(schema) if "grammar" in work.deps.engine.card.capabilities else None


def _offsets(ask: Ask, deps: Deps) -> dict[str, int]:
    offsets: dict[str, int] = {}
    end = 0
    for document in chosen_documents(ask, deps):
        offsets[document.id] = end
        end += document.characters
    return offsets


def _frame(ask: Ask, chosen: Form) -> str:
    return "\n".join((load("structured").frame(ask.question), described(chosen)))


def _around(ask: Ask, deps: Deps, chosen: Form) -> int:
    return deps.engine.count(_frame(ask, chosen))
