"""Members that answer: who is on which side, the exchange of two that differ, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from longleaf.agents.call import call_each
from longleaf.agents.conflict import answer_span, camps, says
from longleaf.agents.denial import denied
from longleaf.agents.evidence import ENOUGH
from longleaf.agents.finding import Finding, evidence, packed, passage, unpacked
from longleaf.agents.inquiry import answered_share
from longleaf.agents.part import Part
from longleaf.agents.prompt import load
from longleaf.agents.reader import Estimate, Work
from longleaf.agents.state import ClaimState
from longleaf.engine.contract import Message, Request, Sampling
from longleaf.retrieval.text import Span

PASSAGE_TOKENS = 120
"""Tokens of a sentence with its neighbours, by most models' count."""

_SIDES = 4
_MARGIN = 0.15
"""How far behind the strongest finding another may be and still be an answer to the same question."""

_SHARE = 0.5
"""Least share of the question's words that a sentence holds, for what it says to be an answer to that very question."""

_SIDE_TOKENS = 32


class SideState(TypedDict):
    """A member's answer: characters `[start, end)` of the sentence of its finding (packed)."""

    finding: list[int]
    start: int
    end: int


class ConflictState(TypedDict):
    """Two sides, by place, that differ; `settled` is the place of the one both held to at last, or -1."""

    one: int
    other: int
    settled: int


def estimate(around_side: int, around_exchange: int) -> Estimate:
    """The most that asking and exchanging cost."""
    exchanges = 2 * (_SIDES - 1)
    prompt = _SIDES * (PASSAGE_TOKENS + around_side) + exchanges * (2 * PASSAGE_TOKENS + around_exchange)
    return Estimate(_SIDES + exchanges, prompt, (_SIDES + exchanges) * _SIDE_TOKENS)


def sides(work: Work, made: Sequence[Part], found: Sequence[Finding]) -> list[SideState]:
    """The answers of the members with the strongest findings; what their sentences do not hold is dropped.

    Nobody is asked where only one finding answers the question.
    """
    least = max(ENOUGH, found[0].confidence - _MARGIN)
    shelf, question = work.deps.shelf, work.ask.question
    close = [item for item in found if item.confidence >= least and _speaks(work, made, item)]
    texts: dict[str, Finding] = {}
    for item in close:
        # Neighbours share a passage; the stronger of them speaks for it.
        if not any(passage(item, made, shelf, 0) in other for other in texts):
            texts[passage(item, made, shelf)] = item
    asked = list(texts.items())[:_SIDES]
    if len(asked) < 2:
        return []
    prompt = load("team_side")
    requests = [
        _request(work, f"side-{place}", prompt.messages(passage=text, question=question), prompt.prefix)
        for place, (text, _) in enumerate(asked, 1)
    ]
    replies, _ = call_each(work, "ask", requests)
    told: list[SideState] = []
    for request, (_, item) in zip(requests, asked, strict=True):
        document = shelf.text(made[item.ordinal].document_id)
        reply = replies[request.id].text if request.id in replies else ""
        if not denied(reply) and (span := answer_span(document, item.span, question, reply)) is not None:
            told.append(SideState(finding=packed(item), start=span.start, end=span.end))
    return told


def _speaks(work: Work, made: Sequence[Part], item: Finding) -> bool:
    return answered_share(work.ask.question, passage(item, made, work.deps.shelf, 0)) >= _SHARE


def texts_of(work: Work, made: Sequence[Part], given: Sequence[SideState]) -> list[str]:
    """The answers of all sides, as they stand in the text."""
    documents = [made[unpacked(side["finding"]).ordinal].document_id for side in given]
    return [
        " ".join(work.deps.shelf.text(document).slice(Span(side["start"], side["end"])).split())
        for document, side in zip(documents, given, strict=True)
    ]


def conflicts(work: Work, made: Sequence[Part], given: Sequence[SideState]) -> list[ConflictState]:
    """The strongest camp against the first of every other camp."""
    groups = camps(texts_of(work, made, given), work.ask.question)
    return [ConflictState(one=groups[0][0], other=group[0], settled=-1) for group in groups[1:]]


def exchanged(
    work: Work, made: Sequence[Part], given: Sequence[SideState], pairs: Sequence[ConflictState]
) -> list[ConflictState]:
    """Each two that differ are given both texts, each its own last, and answer once more.

    Where both then hold to one of the two answers, it is settled. More than this one exchange would not help: at
    temperature 0 the same texts give the same answers.
    """
    prompt = load("team_exchange")
    question = work.ask.question
    texts = {place: passage(unpacked(side["finding"]), made, work.deps.shelf) for place, side in enumerate(given)}
    turns = [(pair["one"], pair["other"]) for pair in pairs] + [(pair["other"], pair["one"]) for pair in pairs]
    requests = [
        _request(
            work,
            f"exchange-{own + 1}-{other + 1}",
            prompt.messages(mine=texts[own], theirs=texts[other], question=question),
            prompt.prefix,
        )
        for own, other in turns
    ]
    replies, _ = call_each(work, "exchange", requests)
    answers = texts_of(work, made, given)
    settled: list[ConflictState] = []
    for pair in pairs:
        one, other = pair["one"], pair["other"]
        both = [replies.get(f"exchange-{a + 1}-{b + 1}") for a, b in ((one, other), (other, one))]
        said = [reply.text for reply in both if reply is not None]
        agreed = [
            place
            for place, rival in ((one, other), (other, one))
            if len(said) == 2
            and all(says(reply, answers[place], question) for reply in said)
            and not any(says(reply, answers[rival], question) for reply in said)
        ]
        settled.append(ConflictState(one=one, other=other, settled=agreed[0] if len(agreed) == 1 else -1))
    return settled


def _request(work: Work, name: str, messages: tuple[Message, ...], prefix: str) -> Request:
    sampling = Sampling(max_tokens=_SIDE_TOKENS, stop=("\n\n",), seed=work.ask.seed)
    return Request(name, messages, sampling, prefix)


def front(given: Sequence[SideState], pairs: Sequence[ConflictState]) -> list[Finding]:
    """The findings of all sides that differed, the one that prevailed first: all of them are shown."""
    if not pairs:
        return []
    places = list(dict.fromkeys([pairs[0]["one"], *(pair["other"] for pair in pairs)]))
    beaten = [pair for pair in pairs if pair["settled"] == pair["other"]]
    lead = beaten[0]["other"] if beaten else places[0]
    ordered = [lead, *(place for place in places if place != lead)]
    return [unpacked(given[place]["finding"]) for place in ordered]


def _open(pairs: Sequence[ConflictState]) -> list[int]:
    """The places of the sides that still differ."""
    still = [pair for pair in pairs if pair["settled"] < 0]
    if not still:
        return []
    beaten = {pair["one"] for pair in pairs if pair["settled"] == pair["other"]}
    upheld = [pair["settled"] for pair in pairs if pair["settled"] >= 0]
    places = [*upheld, *(pair["one"] for pair in still), *(pair["other"] for pair in still)]
    return [place for place in dict.fromkeys(places) if place not in beaten]


def both(work: Work, made: Sequence[Part], given: Sequence[SideState], pairs: Sequence[ConflictState]) -> str:
    """The wording where members still differ, made by code so that no side is left out; empty where they agree."""
    places = _open(pairs)
    answers = texts_of(work, made, given)
    if len(places) < 2:
        return ""
    return f"The text answers in more than one way: {'; '.join(answers[place].rstrip('.') for place in places)}."


def claims(
    work: Work, made: Sequence[Part], given: Sequence[SideState], pairs: Sequence[ConflictState]
) -> list[ClaimState]:
    """Each side that still stands, with its quote."""
    answers = texts_of(work, made, given)
    return [
        ClaimState(about="", text=answers[place], evidence=evidence([unpacked(given[place]["finding"])], made))
        for place in _open(pairs)
    ]


def notes(work: Work, made: Sequence[Part], given: Sequence[SideState], pairs: Sequence[ConflictState]) -> list[str]:
    """Every two that differed, with their pages, and how it ended."""
    answers = texts_of(work, made, given)
    found = [unpacked(side["finding"]) for side in given]
    places = [where(work, made[item.ordinal], item.span.start) for item in found]
    sides_told = [f'"{answer}" ({place})' for answer, place in zip(answers, places, strict=True)]
    told = []
    for pair in pairs:
        both_told = f"{sides_told[pair['one']]}, but {sides_told[pair['other']]}"
        if pair["settled"] < 0:
            told.append(f"members differ: {both_told}; each has seen the other's text")
        else:
            agreed = answers[pair["settled"]]
            told.append(f'members differed: {both_told}; with both texts before them they agreed on "{agreed}"')
    return told


def where(work: Work, part: Part, offset: int) -> str:
    """A place as a reader finds it: title and page."""
    document = work.deps.documents.get(part.document_id)
    number = work.deps.shelf.text(part.document_id).page_at(offset).number
    return f"{document.title}, {document.unit} {number}"
