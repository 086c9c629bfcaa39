"""`hops`: a question of several hops is taken apart and answered hop by hop, each with its quotes.

After MindSearch (Chen et al., 2024) and PAI (Yao et al., 2025). An answer that fills in a later question is always a
span of the text. Where a question cannot be taken apart, a second search looks for it and the names that the first
one brought up, as in iterative retrieval (IRCoT, Trivedi et al., 2023, without the chain of thought).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from longleaf.agents.bridge import able_first, answer_in, elsewhere, left_over, new_names
from longleaf.agents.call import call
from longleaf.agents.decompose import REFERENCE, Plan, by_form, may_be_several, of_reply
from longleaf.agents.denial import quotes_nothing
from longleaf.agents.evidence import adopt, candidates, checked, enough, invented, quote, reading, to_read
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Asking, Deps, Estimate, QuoteFound, Reading, Work
from longleaf.agents.reason import reasoned
from longleaf.agents.state import ClaimState, EvidenceState, PassageState, ReadState
from longleaf.engine.contract import Grammar, Request, Sampling
from longleaf.retrieval.search import Hits
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_CANDIDATES = 24
_EXTRACTED = 2
_PER_HOP = 3
_FIRST = 2
"""Quotes of the first of two searches: the second fact of a question may be any of what they lead to."""

_REASONED = 4
_EXTRACT_TOKENS = 64
_ANSWER_TOKENS = 16
_PLAN_TOKENS = 96
_PASSAGE_TOKENS = 300
"""Tokens of a chunk by most models' count; chunks are cut by the embedder's."""


class HopState(TypedDict):
    """A sub-question, with #1 for an earlier answer; the span that answers it; its quotes, best first."""

    asked: str
    answer: EvidenceState | None
    evidence: list[EvidenceState]
    found: bool


class HopsState(ReadState, total=False):
    """`kind` is the plan's; "names" where a second search takes the place of one. `at` is the hop in hand."""

    kind: str
    hops: list[HopState]
    at: int
    in_hand: list[PassageState]


class Hops:
    """Takes a question apart, answers hop by hop from what search finds, and reasons over all hops' quotes."""

    name = "hops"
    about = "takes a question apart and answers it hop by hop, each with its quotes"
    prompts = ("decompose", "extract", "hop", "reason")
    whole = False

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        around = max(deps.engine.count(load(name).frame(ask.question)) for name in self.prompts)
        hops = max(2, ask.budget.hops)
        calls = hops * (_EXTRACTED + 1) + 2
        prompt = hops * (_EXTRACTED + 1) * _PASSAGE_TOKENS + _REASONED * _PASSAGE_TOKENS // 2 + calls * around
        written = hops * (_EXTRACTED * _EXTRACT_TOKENS + _ANSWER_TOKENS) + _PLAN_TOKENS + ask.budget.answer_tokens
        return Estimate(calls, prompt, written, "a question of one hop costs a third of it")

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(HopsState)
        graph.add_node("plan", lambda state: _plan(state, work))
        graph.add_node("search", lambda state: _search(state, work))
        graph.add_node("extract", lambda state: _extract(state, work))
        graph.add_node("answer", lambda state: _answer(state, work))
        graph.add_node("reason", lambda state: _reason(state, work))
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "search")
        graph.add_edge("search", "extract")
        graph.add_edge("extract", "answer")
        graph.add_conditional_edges("answer", _next, ["search", "reason", END])
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _next(state: HopsState) -> str:
    from langgraph.graph import END

    if state["at"] < len(state["hops"]):
        return "search"
    return "reason" if state["found"] else END


def _plan(state: HopsState, work: Work) -> HopsState:
    ask = work.ask
    question, limit = ask.question.strip(), ask.budget.hops
    notes: list[str] = []
    plan = by_form(question, limit)
    if plan is None and limit > 1 and may_be_several(question):
        prompt = load("decompose")
        sampling = Sampling(max_tokens=_PLAN_TOKENS, stop=("\n\n",), seed=ask.seed)
        request = Request("plan", prompt.messages(question=question), sampling, prompt.prefix)
        plan = of_reply(call(work, "plan", [request])["plan"].text, question, limit)
        if plan is None:
            plan = Plan("one", (question, question))
            notes.append(
                "the question could not be taken apart; it was searched again with the names that its first quotes hold"
            )
    plan = plan or Plan("one", (question,))
    kind = "names" if plan.kind == "one" and len(plan.questions) > 1 else plan.kind
    hops = [HopState(asked=asked, answer=None, evidence=[], found=False) for asked in plan.questions]
    return {"kind": kind, "hops": hops, "at": 0, "notes": notes, "passages": [], "found": False}


def _search(state: HopsState, work: Work) -> HopsState:
    from langgraph.config import get_stream_writer

    ask, deps, at = work.ask, work.deps, state["at"]
    asked, query = _filled(state, work)
    if len(state["hops"]) > 1:
        get_stream_writer()(Asking(query if state["kind"] == "names" else asked, at + 1))
    hits = deps.search.find(query, ask.document_ids or None)
    found = _sentences(hits, deps.shelf)
    if at and not enough(found):  # an answer before it may be wrong: the question itself is then the better guide
        hits = deps.search.find(_whole(state, work), ask.document_ids or None)
        found = _sentences(hits, deps.shelf)
    held = enough(found)
    passages = to_read(hits, ask.budget.passages)
    known = {passage["chunk_id"] for passage in state["passages"]}
    return {
        "passages": state["passages"] + [passage for passage in passages if passage["chunk_id"] not in known],
        "in_hand": passages,
        "candidates": found,
        "hops": _with(state["hops"], at, found=held),
    }


def _extract(state: HopsState, work: Work) -> HopsState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask, at = work.deps, work.ask, state["at"]
    if not state["hops"][at]["found"]:
        return {}
    asked, _ = _filled(state, work)
    prompt = load("extract")
    passages = state["in_hand"][: _EXTRACTED + (state["kind"] == "one")]
    requests = []
    for place, passage in enumerate(passages):
        characters = deps.shelf.text(passage["document_id"]).slice(Span(passage["start"], passage["end"])).strip()
        emit(Reading(place + 1, len(passages), deps.engine.count(characters)))
        requests.append(
            Request(
                f"hop-{at + 1}-passage-{place + 1}",
                prompt.messages(passage=characters, question=asked),
                Sampling(max_tokens=_EXTRACT_TOKENS, stop=("\n\n", '"\n'), seed=ask.seed),
                prompt.prefix,
            )
        )
    chunks = {request.id: (passage["chunk_id"],) for request, passage in zip(requests, passages, strict=True)}
    replies = call(work, "extract", requests, chunks)
    told = [(replies[request.id].text, passage) for request, passage in zip(requests, passages, strict=True)]
    outcomes = [
        checked(reply, passage, state["passages"], deps.shelf) for reply, passage in told if not quotes_nothing(reply)
    ]
    evidence = [item for item in adopt(outcomes, state["candidates"], deps.shelf) if not _is_heading(item, deps.shelf)]
    if state["kind"] == "names":
        evidence = elsewhere(evidence, state["hops"][0]["evidence"] if at else (), deps.shelf)
    elif state["kind"] != "one":
        evidence = able_first(evidence, asked, deps.shelf)
    evidence = evidence[: ask.budget.quotes if state["kind"] == "one" else _PER_HOP]
    if state["kind"] == "names" and not at:
        evidence = evidence[:_FIRST]
    # A quote that an earlier hop showed stays as it was shown.
    shown = {_key(item): item for hop in state["hops"] for item in hop["evidence"]}
    evidence = [shown.get(_key(item), item) for item in evidence]
    for item in evidence:
        if _key(item) not in shown:
            emit(QuoteFound(quote(item, deps.shelf)))
    notes = invented(outcomes)
    return {"hops": _with(state["hops"], at, evidence=evidence), "notes": state["notes"] + notes}


def _key(item: EvidenceState) -> tuple[str, int, int]:
    return item["document_id"], item["start"], item["end"]


def _answer(state: HopsState, work: Work) -> HopsState:
    """The hop's short answer: a span of its quotes. Where the model names none, the form of the question chooses."""
    deps, ask, at = work.deps, work.ask, state["at"]
    hops, kind = state["hops"], state["kind"]
    hop = hops[at]
    notes: list[str] = []
    if kind in ("one", "names"):
        pass
    elif hop["evidence"]:
        asked, _ = _filled(state, work)
        prompt = load("hop")
        quotes = reading(hop["evidence"][:2], deps.shelf)
        held = Grammar.span(quotes) if "grammar" in deps.engine.card.capabilities else None
        request = Request(
            f"hop-{at + 1}-answer",
            prompt.messages(quotes=quotes, question=asked),
            Sampling(max_tokens=_ANSWER_TOKENS, stop=("\n",), seed=ask.seed, grammar=held),
            prompt.prefix,
        )
        reply = call(work, "answer", [request])[request.id].text
        hops = _with(hops, at, answer=answer_in(hop["evidence"], asked, reply, deps.shelf))
    else:
        notes.append(f"nothing was found for: {hop['asked']}")
    at += 1
    evidence = merged([each["evidence"] for each in hops])  # also what an answer rests on if the run ends here
    found = bool(hops[-1]["evidence"] if kind == "bridge" else evidence)
    return {
        "hops": hops,
        "at": at,
        "found": found,
        "evidence": evidence[: ask.budget.quotes],
        "notes": state["notes"] + notes,
    }


def _reason(state: HopsState, work: Work) -> HopsState:
    deps, ask = work.deps, work.ask
    evidence = merged([hop["evidence"] for hop in state["hops"]])
    claims = _claims(state, work)
    steps = "\n".join(f"{claim['about']} {claim['text']}" for claim in claims)
    quotes = reading(evidence[:_REASONED], deps.shelf)
    wording = reasoned(work, f"{quotes}\n\n{steps}".strip())
    return {"evidence": evidence[: ask.budget.quotes], "claims": claims, "wording": wording}


def merged(hops: Sequence[Sequence[EvidenceState]]) -> list[EvidenceState]:
    """The quotes of all hops, each hop's best first, the last hop before those it rests on; without repeats."""
    kept: list[EvidenceState] = []
    for place in range(max((len(hop) for hop in hops), default=0)):
        for hop in reversed(hops):
            if place >= len(hop):
                continue
            item = hop[place]
            span = Span(item["start"], item["end"])
            if not any(
                other["document_id"] == item["document_id"] and Span(other["start"], other["end"]).overlaps(span)
                for other in kept
            ):
                kept.append(item)
    return kept


def _claims(state: HopsState, work: Work) -> list[ClaimState]:
    """A claim for each sub-question that has quotes; none where the question was not taken apart."""
    if state["kind"] in ("one", "names"):
        return []
    shelf = work.deps.shelf
    made = []
    for place, hop in enumerate(state["hops"]):
        if hop["evidence"]:
            said = hop["answer"] or hop["evidence"][0]
            asked, _ = _filled({**state, "at": place}, work)
            made.append(ClaimState(about=asked, text=_words(said, shelf), evidence=hop["evidence"]))
    return made


def _filled(state: HopsState, work: Work) -> tuple[str, str]:
    """The sub-question in hand with the answers before it filled in, and what to search for.

    Where an answer it needs was not found, the question as a whole is asked, with the names found so far.
    """
    shelf, hops, at = work.deps.shelf, state["hops"], state["at"]
    asked = hops[at]["asked"]
    if state["kind"] == "names":
        return asked, f"{asked} {' '.join(new_names(hops[0]['evidence'], asked, shelf))}".strip() if at else asked
    needed = [int(number) - 1 for number in REFERENCE.findall(asked)]
    if all(hops[place]["answer"] for place in needed):
        answers = [hop["answer"] for hop in hops]
        filled = REFERENCE.sub(lambda match: _words(answers[int(match.group(1)) - 1], shelf), asked)
        return filled, filled
    return work.ask.question.strip(), _whole(state, work)


def _second(evidence: Sequence[EvidenceState], question: str, shelf: Shelf) -> str:
    """What a second search looks for: the names of the first one's best quote, and what that leaves unanswered."""
    return " ".join([*new_names(evidence, question, shelf), left_over(evidence, question, shelf)])


def _whole(state: HopsState, work: Work) -> str:
    """The question as a whole with the names that the hops so far brought up."""
    question = work.ask.question.strip()
    found = [name for hop in state["hops"] for name in new_names(hop["evidence"], question, work.deps.shelf)]
    return " ".join([question, *found])


def _sentences(hits: Hits, shelf: Shelf) -> list[EvidenceState]:
    return [item for item in candidates(hits, _CANDIDATES) if not _is_heading(item, shelf)]


def _words(item: EvidenceState | None, shelf: Shelf) -> str:
    return " ".join(quote(item, shelf).text.split()) if item else ""


def _is_heading(item: EvidenceState, shelf: Shelf) -> bool:
    """A heading names what a passage is about; it says nothing that could be quoted."""
    headings = shelf.text(item["document_id"]).headings
    return any(heading.start <= item["start"] and item["end"] <= heading.end for heading in headings)


def _with(
    hops: Sequence[HopState],
    at: int,
    *,
    answer: EvidenceState | None = None,
    evidence: list[EvidenceState] | None = None,
    found: bool | None = None,
) -> list[HopState]:
    """`hops` with hop `at` changed in what is given."""
    old = hops[at]
    new = HopState(
        asked=old["asked"],
        answer=answer or old["answer"],
        evidence=old["evidence"] if evidence is None else evidence,
        found=old["found"] if found is None else found,
    )
    return [*hops[:at], new, *hops[at + 1 :]]
