"""`clarify`: the reader raises questions of its own, grounds each in the text, and searches the tree of them.

After AgenticLU (He et al., 2025, arXiv 2502.15920), whose chains of clarifications are found by a tree search, and
ComoRAG (Wang et al., 2025), which at an impasse probes again from a pool of all that was found. The tree is bounded by
`budget.depth` and `budget.branches`; a path counts by what its checked quotes hold, never by what the model says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from longleaf.agents import reason
from longleaf.agents.bridge import answer_in
from longleaf.agents.call import call_each
from longleaf.agents.digest import said
from longleaf.agents.evidence import ENOUGH, MODEL_BONUS, candidates, enough, quote, reading, to_read, weighed
from longleaf.agents.inquiry import answered_share, by_form, of_reply
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Asking, Deps, Estimate, QuoteFound, Reading, Wording, Work
from longleaf.agents.state import ClaimState, EvidenceState, ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.search import Hits
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

SURE = 0.6
"""Least confidence of a path's best quote that ends the search where the path holds all of the question's words."""

_HOPELESS = ENOUGH / 2
_PATHS = 2
"""Paths that are gone on with from level to level."""

_PROBES = 1
"""Times that the reader probes again when it is stuck."""

_GROUNDED = 2
_QUOTES = 2
_POOL = 6
_GONE = 3
"""So many questions of a level that all fail mean that the model is gone."""

_REASONED = 4
_RAISE_TOKENS = 80
_GROUND_TOKENS = 32
_PASSAGE_TOKENS = 300
_FRAME_TOKENS = 64


class BranchState(TypedDict):
    """A node of the tree: a question, and the spans that answer it. The root, place 0, is the question that was put.

    `parent` is a place, -1 for the root; a probe hangs on the root, for it is asked from the whole pool. `answer` is
    the span that answers, `score` that of the path down to here, `sure` whether that path answers beyond doubt, `fresh`
    whether this step brought what was not known.
    """

    parent: int
    level: int
    asked: str
    answer: EvidenceState | None
    evidence: list[EvidenceState]
    score: float
    sure: bool
    fresh: bool


class RaisedState(TypedDict):
    """A question that waits to be grounded."""

    parent: int
    asked: str


class ClarifyState(ReadState, total=False):
    """`branches` is the tree, `raised` the next level of it, `level` the newest one, `probes` how many there were."""

    branches: list[BranchState]
    raised: list[RaisedState]
    level: int
    probes: int
    junk: int
    unheard: int


class Clarify:
    """Searches, and asks on from what it finds until the question's words are covered or the budget is spent."""

    name = "clarify"
    about = "raises questions of its own, grounds each in the text, and answers from all that was found"
    prompts = ("clarify_raise", "clarify_ground", "clarify_probe", "reason")
    whole = False

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        count = deps.engine.count
        around = max(count(load(name).frame(ask.question)) for name in self.prompts) + _FRAME_TOKENS
        depth, branches = ask.budget.depth, ask.budget.branches
        raising = 1 + (depth - 1) * _PATHS + _PROBES
        grounding = branches * raising
        quotes = _POOL * _PASSAGE_TOKENS
        prompt = raising * (quotes + around) + grounding * (_GROUNDED * _PASSAGE_TOKENS + around)
        return Estimate(
            raising + grounding + 1,
            prompt + _REASONED * _PASSAGE_TOKENS + around,
            raising * _RAISE_TOKENS + grounding * _GROUND_TOKENS + ask.budget.answer_tokens,
            "less where the first quotes answer; none if search finds nothing",
        )

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(ClarifyState)
        graph.add_node("search", lambda state: _search(state, work))
        graph.add_node("raise", lambda state: _raise(state, work))
        graph.add_node("probe", lambda state: _probe(state, work))
        graph.add_node("ground", lambda state: _ground(state, work))
        graph.add_node("reason", lambda state: _reason(state, work))

        def onward(state: ClarifyState) -> str:
            return _onward(state, work)

        def grounded(state: ClarifyState) -> str:
            return "ground" if state["raised"] else _stuck(state)

        graph.add_edge(START, "search")
        graph.add_conditional_edges("search", onward, ["raise", "probe", "reason", END])
        graph.add_conditional_edges("raise", grounded, ["ground", "probe", "reason"])
        graph.add_conditional_edges("probe", grounded, ["ground", "reason"])
        graph.add_conditional_edges("ground", onward, ["raise", "probe", "reason"])
        graph.add_edge("reason", END)
        return graph.compile(checkpointer=checkpointer, name=self.name)


def _onward(state: ClarifyState, work: Work) -> str:
    """After a level: stop when sure, go deeper while there is something new and depth left, probe when stuck."""
    from langgraph.graph import END

    branches, level = state["branches"], state["level"]
    if not branches:
        return END
    if any(branch["sure"] for branch in branches) or level >= work.ask.budget.depth + state["probes"]:
        return "reason"
    newest = [branch for branch in branches if branch["level"] == level]
    return "raise" if any(branch["fresh"] for branch in newest) else _stuck(state)


def _stuck(state: ClarifyState) -> str:
    return "probe" if state["probes"] < _PROBES else "reason"


def _search(state: ClarifyState, work: Work) -> ClarifyState:
    ask = work.ask
    hits = work.deps.search.find(ask.question, ask.document_ids or None)
    found = candidates(hits, _QUOTES)
    begun: ClarifyState = {"branches": [], "raised": [], "level": 0, "probes": 0, "junk": 0, "unheard": 0}
    begun["passages"] = to_read(hits, ask.budget.passages)
    if not found or max(item["confidence"] for item in found) < _HOPELESS:
        return {**begun, "found": False}
    root = _branch(-1, 0, ask.question, found, True)
    root["score"], root["sure"] = _standing([root], 0, work)
    evidence = weighed(work, ask.question, _spans([root]), ask.budget.quotes)
    return {**begun, "branches": [root], "evidence": evidence, "found": enough(evidence)}


def _raise(state: ClarifyState, work: Work) -> ClarifyState:
    """The best paths of the newest level, each asked what would help it on."""
    branches, level = state["branches"], state["level"]
    newest = [place for place, branch in enumerate(branches) if branch["level"] == level and branch["fresh"]]
    paths = sorted(newest, key=lambda place: -branches[place]["score"])[:_PATHS]
    grounds = {place: [branches[step] for step in _path(branches, place)] for place in paths}
    return _proposed(state, work, "clarify_raise", "raise", grounds)


def _probe(state: ClarifyState, work: Work) -> ClarifyState:
    """Stuck: ask again from the pool, which is all that was found on any path."""
    proposed = _proposed(state, work, "clarify_probe", "probe", {0: state["branches"]})
    return {**proposed, "probes": state["probes"] + 1}


def _proposed(
    state: ClarifyState, work: Work, prompt_name: str, node: str, grounds: dict[int, list[BranchState]]
) -> ClarifyState:
    """Questions from the model for each path, and from code where it gives too few; nothing asked twice.

    A path whose call failed gets code's questions alone.
    """
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask, shelf = work.ask, work.deps.shelf
    wanted = ask.budget.branches
    prompt = load(prompt_name)
    evidence = {place: _pool(steps)[:_POOL] for place, steps in grounds.items()}
    requests = [
        Request(
            f"{node}-{state['level'] + 1}-{place}",
            prompt.messages(quotes=reading(evidence[place], shelf), question=ask.question, count=str(wanted)),
            Sampling(max_tokens=_RAISE_TOKENS, stop=("\n\n",), seed=ask.seed),
            prompt.prefix,
        )
        for place in grounds
    ]
    replies, failures = call_each(work, node, requests)
    known = [branch["asked"] for branch in state["branches"]]
    raised: list[RaisedState] = []
    junk = 0
    for request, place in zip(requests, grounds, strict=True):
        ground = _text(evidence[place], shelf)
        reply = replies[request.id].text if request.id in replies else ""
        questions = of_reply(f"{prompt.prefix} {reply}", ask.question, known, ground, wanted)
        junk += request.id in replies and not questions
        questions += by_form(ask.question, [*known, *questions], ground, wanted - len(questions))
        known += questions
        raised += [RaisedState(parent=place, asked=asked) for asked in questions]
    for item in raised:
        emit(Asking(item["asked"], state["level"] + 1))
    return {"raised": raised, "junk": state["junk"] + junk, "unheard": state["unheard"] + len(failures)}


def _ground(state: ClarifyState, work: Work) -> ClarifyState:
    """Each raised question searched, answered from what search finds, and held against it: one batch for the level."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    ask, deps = work.ask, work.deps
    branches, level = list(state["branches"]), state["level"] + 1
    prompt = load("clarify_ground")
    found: dict[str, list[EvidenceState]] = {}
    chunks: dict[str, tuple[str, ...]] = {}
    requests: list[Request] = []
    passages = list(state["passages"])
    for place, item in enumerate(state["raised"], len(branches)):
        hits = deps.search.find(item["asked"], ask.document_ids or None)
        shown = to_read(hits, _GROUNDED)
        texts = [deps.shelf.text(one["document_id"]).slice(Span(one["start"], one["end"])).strip() for one in shown]
        name = f"ground-{place}"
        inside = {one["chunk_id"] for one in shown}
        sentences = tuple(unit for unit in hits.sentences if unit.chunk_id in inside)
        found[name] = [one for one in candidates(Hits((), sentences), _QUOTES) if one["confidence"] >= ENOUGH]
        chunks[name] = tuple(one["chunk_id"] for one in shown)
        passages += [one for one in shown if one not in passages]
        emit(Reading(place, len(branches) + len(state["raised"]) - 1, sum(map(deps.engine.count, texts))))
        requests.append(
            Request(
                name,
                prompt.messages(passages="\n\n".join(texts), question=item["asked"]),
                Sampling(max_tokens=_GROUND_TOKENS, stop=("\n",), seed=ask.seed),
                prompt.prefix,
            )
        )
    replies, failures = call_each(work, "ground", requests, chunks)
    if len(requests) >= _GONE and len(failures) == len(requests):
        raise next(iter(failures.values())).error
    for place, item in enumerate(state["raised"], len(branches)):
        name = f"ground-{place}"
        reply = replies[name].text if name in replies else ""
        evidence = found[name]
        answer = answer_in(evidence, item["asked"], reply, deps.shelf) if evidence else None
        for one in evidence:
            if answer and answer["by"] == "model" and _overlap(answer, one):
                one["by"], one["score"] = "model", one["score"] + MODEL_BONUS
        known = [other for branch in branches for other in branch["evidence"]]
        fresh = any(not any(_overlap(one, other) for other in known) for one in evidence)
        evidence.sort(key=lambda one: -one["score"])
        branches.append(_branch(item["parent"], level, item["asked"], evidence, fresh, answer))
        branches[-1]["score"], branches[-1]["sure"] = _standing(branches, place, work)
    evidence = weighed(work, ask.question, _spans(branches), ask.budget.quotes)
    return {
        "branches": branches,
        "raised": [],
        "level": level,
        "passages": passages,
        "evidence": evidence,
        "found": enough(evidence),
        "unheard": state["unheard"] + len(failures),
    }


def _reason(state: ClarifyState, work: Work) -> ReadState:
    """The answer over all checked evidence: what speaks most to the question, and the best path's quotes beside it."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    deps, ask = work.deps, work.ask
    branches = state["branches"]
    notes = [*state["notes"], *_notes(state)]
    pool = weighed(work, ask.question, _spans(branches), len(branches) * _QUOTES)
    if not enough(pool):
        return {"found": False, "evidence": [], "claims": [], "notes": notes}
    by_model = [one for branch in branches for one in branch["evidence"] if one["by"] == "model"]
    for item in pool:
        item["by"] = "model" if any(_overlap(item, one) for one in by_model) else "search"
    top = max(range(len(branches)), key=lambda place: (branches[place]["score"], -place))
    steps = [branches[place]["evidence"][0] for place in _path(branches, top)[1:] if branches[place]["evidence"]]
    led = [item for item in pool[1:] if any(_overlap(item, step) for step in steps)]
    others = [item for item in pool[1:] if item not in led]
    shown = [pool[0], *led, *others][: ask.budget.quotes]
    beside = [one for branch in branches[1:] for one in branch["evidence"]]
    for found in dict.fromkeys(quote(item, deps.shelf) for item in [*shown, *beside]):
        emit(QuoteFound(found))
    wording = said(
        work,
        "reason",
        reason.asked(work, quotes=reading(shown[:_REASONED], deps.shelf)),
        lambda piece: emit(Wording(piece)),
    )
    claims = []
    for branch in branches[1:]:
        if branch["evidence"]:
            answer = _flat(branch["answer"] or branch["evidence"][0], deps.shelf)
            claims.append(ClaimState(about=branch["asked"], text=answer, evidence=branch["evidence"]))
    return {"found": True, "evidence": shown, "claims": claims, "wording": wording, "notes": notes}


def _notes(state: ClarifyState) -> list[str]:
    asked = state["branches"][1:]
    told = []
    if silent := [branch for branch in asked if not branch["evidence"]]:
        told.append(f"{len(silent)} of {len(asked)} questions the reader raised have no answer in the text")
    if state["junk"]:
        told.append(f"{state['junk']} times the model raised no question that was new and grounded; code made them")
    if state["unheard"]:
        told.append(f"{state['unheard']} calls on the way failed; the search went on without them")
    return told


def _path(branches: Sequence[BranchState], place: int) -> list[int]:
    """The places from the root down to `place`."""
    steps = [place]
    while branches[steps[-1]]["parent"] >= 0:
        steps.append(branches[steps[-1]]["parent"])
    return steps[::-1]


def _branch(
    parent: int,
    level: int,
    asked: str,
    evidence: list[EvidenceState],
    fresh: bool,
    answer: EvidenceState | None = None,
) -> BranchState:
    return BranchState(
        parent=parent,
        level=level,
        asked=asked,
        answer=answer,
        evidence=evidence,
        score=0.0,
        sure=False,
        fresh=fresh,
    )


def _standing(branches: Sequence[BranchState], place: int, work: Work) -> tuple[float, bool]:
    """How far a path gets, and whether it is sure.

    Its best quote's confidence for the question, plus the share of the question's words that its quotes hold; sure
    where that quote is well above what is enough and no word is missing.
    """
    steps = [branches[step] for step in _path(branches, place)]
    evidence = weighed(work, work.ask.question, _spans(steps), 1)
    strongest = evidence[0]["confidence"] if evidence else 0.0
    share = answered_share(work.ask.question, _text(_pool(steps), work.deps.shelf))
    return round(strongest + share, 3), strongest >= SURE and share == 1.0


def _spans(branches: Sequence[BranchState]) -> list[SourceSpan]:
    found = [one for branch in branches for one in branch["evidence"]]
    return list(dict.fromkeys(SourceSpan(one["document_id"], one["start"], one["end"]) for one in found))


def _pool(branches: Sequence[BranchState]) -> list[EvidenceState]:
    """What these branches found, without repeats, newest first: the best quote of the last step is the last read."""
    kept: list[EvidenceState] = []
    for branch in reversed(branches):
        kept += [one for one in branch["evidence"] if not any(_overlap(one, other) for other in kept)]
    return kept


def _text(evidence: Sequence[EvidenceState], shelf: Shelf) -> str:
    return "\n".join(_flat(one, shelf) for one in evidence)


def _flat(item: EvidenceState, shelf: Shelf) -> str:
    return " ".join(shelf.text(item["document_id"]).slice(Span(item["start"], item["end"])).split())


def _overlap(one: EvidenceState, other: EvidenceState) -> bool:
    same = one["document_id"] == other["document_id"]
    return same and Span(one["start"], one["end"]).overlaps(Span(other["start"], other["end"]))
