"""`team`: a leader, and members that each read one part at the same time; who differs is shown the other's text.

After LongAgent (Zhao et al., 2024, arXiv 2402.11550) and ExtAgents (Liu et al., 2025). A member's word counts as far as
its part bears it out: what it says it found is looked for there, sentences it overlooked are added by code, and
relevance to the question is measured, not asked for. "Nothing here" and silence are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from longleaf.agents import digest, parley, reason
from longleaf.agents.call import call_each
from longleaf.agents.evidence import ENOUGH, WORTH, quote, reading
from longleaf.agents.finding import NOTED, Finding, best, copied, evidence, judged, packed, spread, unpacked
from longleaf.agents.lines import units
from longleaf.agents.notebook import answer_tokens
from longleaf.agents.parley import ConflictState, SideState
from longleaf.agents.part import Part, fingerprint, fits, parts, same
from longleaf.agents.prompt import load
from longleaf.agents.proposal import relevant
from longleaf.agents.reader import Ask, Deps, Estimate, QuoteFound, Reading, Wording, Work
from longleaf.agents.state import ReadState
from longleaf.engine.contract import Failed, Request, Sampling
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_COPY_TOKENS = 64
_GIST_TOKENS = 96
_FRAME_TOKENS = 64
_GONE = 8
"""So many members failing in a row mean that the model is gone, not that these parts are hard."""

_NAMED = 3


def _gathered(held: list[list[int]], new: list[list[int]] | None) -> list[list[int]]:
    """What the members of a wave bring; None begins the next wave."""
    return [] if new is None else held + new


class TeamState(ReadState, total=False):
    """`ordinal` is the first part that no wave has had. `wave` is what its members brought, as [ordinal, start, end]:
    [ordinal] alone from one that failed, an empty span for nothing, a negative one for what its part does not hold.

    `best` are findings (`finding.packed`), best first or, for a summary, in reading order. `failed` are to be retried,
    `lost` stayed failed, `silent` failed in a row up to now; `invented` counts replies that no part holds.
    """

    fingerprint: str
    ordinal: int
    wave: Annotated[list[list[int]], _gathered]
    best: list[list[int]]
    failed: list[int]
    lost: list[int]
    silent: int
    invented: int
    thinned: bool
    sides: list[SideState]
    conflicts: list[ConflictState]


class Team:
    """Reads everything, `budget.members` parts at a time; the leader answers from what was checked."""

    name = "team"
    about = "reads everything, many parts at once; members that differ are shown each other's text"
    prompts = ("team_part", "team_gist", "team_side", "team_exchange", "team_merge", "team_summary", "reason")
    whole = True

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        made = parts(ask, deps)
        count = deps.engine.count
        summary = ask.options.task == "summary"
        prompts = [load(name) for name in self.prompts]
        around = {item.name: count(item.frame(ask.question)) + _FRAME_TOKENS for item in prompts}
        own = _GIST_TOKENS if summary else _COPY_TOKENS
        prompt = sum(part.tokens for part in made) + len(made) * around["team_gist" if summary else "team_part"]
        if summary:
            more = digest.estimate(ask, len(made), around["team_merge"])
            last = ask.budget.part_tokens + around["team_summary"]
        else:
            more = parley.estimate(around["team_side"], around["team_exchange"])
            last = ask.budget.quotes * parley.PASSAGE_TOKENS + around["reason"]
        return Estimate(
            len(made) + more.calls + 1,
            prompt + more.prompt_tokens + last,
            len(made) * own + more.generated_tokens + answer_tokens(ask),
            "" if summary else "less where members do not differ; only the members' calls if nothing is found",
        )

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        made = cache(lambda: parts(work.ask, work.deps))
        after = _after(work, made)
        graph = StateGraph(TeamState)
        graph.add_node("plan", lambda state: _plan(state, work, made()))
        graph.add_node("member", lambda payload: _member(payload, work, made()))
        graph.add_node("collect", lambda state: _collect(state, work, made()))
        graph.add_node("retry", lambda state: _retry(state, work, made()))
        graph.add_node("ask", lambda state: _ask(state, work, made()))
        graph.add_node("exchange", lambda state: _exchange(state, work, made()))
        graph.add_node("merge", lambda state: _merge(state, work, made()))
        graph.add_node("lead", lambda state: _lead(state, work, made()))
        onward = ["member", "retry", "ask", "merge", "lead"]
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", after, onward)
        graph.add_edge("member", "collect")
        graph.add_conditional_edges("collect", after, onward)
        graph.add_conditional_edges("retry", after, onward)
        graph.add_conditional_edges(
            "ask", lambda state: "exchange" if state["conflicts"] else "lead", ["exchange", "lead"]
        )
        graph.add_edge("exchange", "lead")
        graph.add_conditional_edges("merge", after, ["merge", "lead"])
        graph.add_edge("lead", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _wave(work: Work, made: Sequence[Part], ordinal: int) -> range:
    """The ordinals of the wave that `ordinal` begins."""
    return range(ordinal, min(ordinal + work.ask.budget.members, len(made)))


def _after(work: Work, made: Callable[[], list[Part]]) -> Callable[[TeamState], Any]:
    """Where to go once a wave is in: the next wave, those that failed, or on to the answer.

    A wave is a superstep, and its checkpoint lists what is still to be sent: one wave, not all parts.
    """
    from langgraph.types import Send

    def chosen(state: TeamState) -> Any:
        wave = _wave(work, made(), state["ordinal"])
        if state["failed"] and (state["silent"] >= _GONE or not wave):
            return "retry"
        if wave:
            return [Send("member", {"ordinal": ordinal}) for ordinal in wave]
        if work.ask.options.task == "answer":
            return "ask"
        rounds = digest.groups(work, made(), [unpacked(row) for row in state["best"]])
        return "merge" if len(rounds) > 1 else "lead"

    return chosen


def _plan(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    summary = work.ask.options.task == "summary"
    around = load("team_gist" if summary else "team_part").frame(work.ask.question)
    fits(work.ask, work.deps, around, _GIST_TOKENS if summary else _COPY_TOKENS)
    return {
        "fingerprint": fingerprint(made),
        "ordinal": 0,
        "best": [],
        "failed": [],
        "lost": [],
        "silent": 0,
        "invented": 0,
        "thinned": False,
    }


def _member(payload: dict[str, int], work: Work, made: Sequence[Part]) -> TeamState:
    """One member reads its part, beside the others of its wave."""
    ordinal = payload["ordinal"]
    together = work.ask.budget.members
    first = ordinal - ordinal % together
    brought, _ = _read(work, made, made[ordinal], "member", len(_wave(work, made, first)))
    return {"wave": brought}


def _read(
    work: Work, made: Sequence[Part], part: Part, node: str, together: int = 1
) -> tuple[list[list[int]], Failed | None]:
    """What a member brings (see `TeamState.wave`), and its failure."""
    from langgraph.config import get_stream_writer

    deps, ask = work.deps, work.ask
    get_stream_writer()(Reading(part.ordinal + 1, len(made), part.tokens))
    summary = ask.options.task == "summary"
    prompt = load("team_gist" if summary else "team_part")
    stop = ("\n\n",) if summary else ("\n\n", '"\n')
    request = Request(
        f"part-{part.ordinal + 1}",
        prompt.messages(part=part.characters(deps.shelf), question=ask.question),
        Sampling(max_tokens=_GIST_TOKENS if summary else _COPY_TOKENS, stop=stop, seed=ask.seed),
        prompt.prefix,
    )
    replies, failures = call_each(work, node, [request], {request.id: part.chunk_ids}, together=together)
    if failures:
        return [[part.ordinal]], failures[request.id]
    reply = replies[request.id].text
    spans = digest.behind(work, part, reply) if summary else copied(reply, part, deps.shelf)
    if spans is None:
        return [[part.ordinal, -1, -1]], None
    return [[part.ordinal, span.start, span.end] for span in spans] or [[part.ordinal, 0, 0]], None


def _collect(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    """Judge what a wave brought. Members' threads do not embed: they come and go, and each would cost memory."""
    same(made, state["fingerprint"])
    wave = state["wave"]
    failed = [row[0] for row in wave if len(row) == 1]
    silent = state["silent"]
    for ordinal in _wave(work, made, state["ordinal"]):
        silent = silent + 1 if ordinal in failed else 0
    taken = _taken(state, work, made, wave)
    taken["wave"] = None  # type: ignore[typeddict-item]  # the reducer's sign for an empty one
    taken["ordinal"] = _wave(work, made, state["ordinal"]).stop
    taken["failed"] = [*state["failed"], *failed]
    taken["silent"] = silent
    return taken


def _taken(state: TeamState, work: Work, made: Sequence[Part], brought: Sequence[Sequence[int]]) -> TeamState:
    """The findings with those that members brought, and with what code finds in the same parts."""
    found = [Finding(row[0], Span(row[1], row[2]), "model") for row in brought if len(row) == 3 and row[2] > 0]
    read = sorted({row[0] for row in brought if len(row) == 3})
    summary = work.ask.options.task == "summary"
    for ordinal in read:
        part = made[ordinal]
        known = units([SourceSpan(part.document_id, part.span.start, part.span.end)], work.deps.shelf)
        if summary:
            found += digest.overlooked(ordinal, known, [item for item in found if item.ordinal == ordinal])
        else:
            own = [Span(unit.source.start, unit.source.end) for unit in relevant(work, part, known)]
            found += [Finding(ordinal, span) for span in own]
    before = [unpacked(row) for row in state["best"]]
    now = [*before, *found] if summary else best([*before, *judged(work, made, found)], made)
    kept = spread(now, NOTED) if summary else now
    shown = spread(kept, work.ask.budget.quotes) if summary else kept[: work.ask.budget.quotes]
    return {
        "best": [packed(item) for item in kept],
        "evidence": evidence(shown, made),
        "found": bool(kept) if summary else _enough(kept),
        "invented": state["invented"] + sum(len(row) == 3 and row[1] < 0 for row in brought),
        "thinned": state["thinned"] or len(kept) < len(set(now)),
    }


def _retry(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    """The first member that failed, alone. Its error ends the run where nobody can be heard any more."""
    same(made, state["fingerprint"])
    ordinal = state["failed"][0]
    brought, failure = _read(work, made, made[ordinal], "retry")
    nobody = len(state["failed"]) + len(state["lost"]) >= state["ordinal"]
    if failure is not None and (nobody or state["silent"] >= _GONE):
        raise failure.error
    taken = _taken(state, work, made, brought) if failure is None else TeamState(lost=[*state["lost"], ordinal])
    taken["failed"] = state["failed"][1:]
    taken["silent"] = 0
    return taken


def _ask(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    """All findings judged against each other, and the strongest members asked for their answer."""
    same(made, state["fingerprint"])
    found = best(judged(work, made, [unpacked(row) for row in state["best"]]), made)
    shown = evidence(found[: work.ask.budget.quotes], made)
    asked: TeamState = {"best": [packed(item) for item in found], "evidence": shown, "found": _enough(found)}
    asked["sides"], asked["conflicts"] = [], []
    if asked["found"]:
        asked["sides"] = parley.sides(work, made, found)
        asked["conflicts"] = parley.conflicts(work, made, asked["sides"])
    return asked


def _enough(found: Sequence[Finding]) -> bool:
    return any(item.confidence >= ENOUGH for item in found[:3])


def _exchange(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    return {"conflicts": parley.exchanged(work, made, state["sides"], state["conflicts"])}


def _merge(state: TeamState, work: Work, made: Sequence[Part]) -> TeamState:
    same(made, state["fingerprint"])
    kept, cut = digest.merged(work, made, [unpacked(row) for row in state["best"]])
    return {"best": [packed(item) for item in kept], "thinned": state["thinned"] or cut}


def _lead(state: TeamState, work: Work, made: Sequence[Part]) -> ReadState:
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    notes = [*state["notes"], *_notes(state, work, made)]
    if not state.get("found"):
        return {"found": False, "evidence": [], "notes": notes}
    if ask.options.task == "summary":
        found = [unpacked(row) for row in state["best"]]
        return digest.summary(work, made, found, notes, lambda piece: emit(Wording(piece)))
    sides, conflicts = state["sides"], state["conflicts"]
    front = parley.front(sides, conflicts)
    found = [item for place, item in enumerate(map(unpacked, state["best"])) if not place or item.confidence >= WORTH]
    rest = [item for item in found if not any(_overlap(item, other, made) for other in front)]
    shown = evidence([*front, *rest][: max(ask.budget.quotes, len(front))], made)
    for item in shown:
        emit(QuoteFound(quote(item, deps.shelf)))
    told = parley.notes(work, made, sides, conflicts)
    if wording := parley.both(work, made, sides, conflicts):
        emit(Wording(wording))
        claims = parley.claims(work, made, sides, conflicts)
        return {"evidence": shown, "claims": claims, "wording": wording, "notes": [*notes, *told]}
    around = deps.engine.count(load("reason").frame(ask.question)) + _FRAME_TOKENS
    room = deps.engine.card.window - around - ask.budget.answer_tokens
    seen = list(shown)
    while len(seen) > 1 and deps.engine.count(reading(seen, deps.shelf)) > room:
        seen.pop()
    if len(seen) < len(shown):
        told.append(f"the leader's window holds {len(seen)} of {len(shown)} quotes; the weaker ones were not before it")
    request = reason.asked(work, quotes=reading(seen, deps.shelf))
    wording = digest.said(work, "lead", request, lambda piece: emit(Wording(piece)))
    return {"evidence": shown, "wording": wording, "notes": [*notes, *told]}


def _overlap(one: Finding, other: Finding, made: Sequence[Part]) -> bool:
    return made[one.ordinal].document_id == made[other.ordinal].document_id and one.span.overlaps(other.span)


def _notes(state: TeamState, work: Work, made: Sequence[Part]) -> list[str]:
    told = []
    if lost := state["lost"]:
        named = "; ".join(parley.where(work, made[ordinal], made[ordinal].span.start) for ordinal in lost[:_NAMED])
        more = f"; and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        told.append(f"{len(lost)} of {len(made)} members failed, alone too, and their parts are unread: {named}{more}")
    if state["invented"]:
        told.append(f"{state['invented']} of {len(made)} members gave what their part does not hold; dropped")
    if state["thinned"] and work.ask.options.task == "summary":
        told.append("the members found more than the leader can hold; sentences spread over the whole stand for all")
    return told
