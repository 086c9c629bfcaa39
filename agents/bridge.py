"""From one hop to the next: the span that answers a sub-question, and the names that a first search brought up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from longleaf.agents.names import content, figures, names, news, years
from longleaf.agents.state import EvidenceState
from longleaf.retrieval.quote import Source, check
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

_NAMES = 3
"""Names that a second search takes with it. More of them drown the question."""

_PLACE = 800
"""Characters within which two sentences of a paragraph are in one place."""

_SHORT = 80
"""Characters of a short answer at most."""

_NEAR = 6
"""Quotes among which one that fits the question's form may come before a better ranked one that does not."""

_WHEN = re.compile(r"(?i)when\b|(?:in |on |from )?(?:what|which|when) (?:year|date|day)\b|from when\b")
_MANY = re.compile(r"(?i)how (?:many|much|long|old|high|far|large|tall|heavy)\b")
_WHERE = re.compile(r"(?i)where\b|(?:in|at|to|from) (?:what|which) (?:place|city|town|country|village|state)\b")
_FORMED = re.compile(
    "|".join(pattern.pattern.removeprefix("(?i)") for pattern in (_WHEN, _MANY, _WHERE)), re.IGNORECASE
)
_NAMED = re.compile(r"(?i)(?:who|which|what|whose)\b")
_MONTH = re.compile(r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b")
_BEFORE_PLACE = re.compile(r"(?i)\b(?:in|at|near|from|to|into)\s+(?:the\s+)?$")


def answer_in(evidence: Sequence[EvidenceState], question: str, reply: str, shelf: Shelf) -> EvidenceState | None:
    """The span of the evidence that answers `question`: what the model says where it stands there, else by form.

    None where neither gives one, as for a question to be answered yes or no. Words of the question are no answer.
    """
    for said in _sayings(reply, question):
        for item in evidence:
            text = shelf.text(item["document_id"])
            outcome = check(said, [Source(item["document_id"], text, Span(item["start"], item["end"]))])
            span = outcome.found[0].span if outcome.status == "verified" else None
            if span and len(span) <= _SHORT and content(text.slice(span)) - content(question):
                return _answer(item, span, "model")
    for item in evidence:
        text = shelf.text(item["document_id"])
        spans = _fitting(text.slice(Span(item["start"], item["end"])), question)
        if spans:
            return _answer(item, Span(item["start"] + spans[0].start, item["start"] + spans[0].end), "search")
    return None


def new_names(evidence: Sequence[EvidenceState], question: str, shelf: Shelf) -> list[str]:
    """Names in the best quote, and in the heading over it, that the question does not hold."""
    found: dict[str, None] = {}
    for item in evidence[:1]:
        text = shelf.text(item["document_id"])
        for characters in (heading_over(item, shelf), text.slice(Span(item["start"], item["end"]))):
            for span in news(characters, [question, *found]):
                found[" ".join(characters[span.start : span.end].split())] = None
    return list(found)[:_NAMES]


def left_over(evidence: Sequence[EvidenceState], question: str, shelf: Shelf) -> str:
    """The question without the words that the best quote answers to already."""
    item = evidence[0]
    held = content(shelf.text(item["document_id"]).slice(Span(item["start"], item["end"])))
    return " ".join(word for word in re.findall(r"\w+", question) if not content(word) or content(word) - held)


def heading_over(item: EvidenceState, shelf: Shelf) -> str:
    """The nearest heading before a span, or nothing."""
    text = shelf.text(item["document_id"])
    before = [heading for heading in text.headings if heading.end <= item["start"]]
    return text.characters[before[-1].start : before[-1].end].lstrip("# ").strip() if before else ""


def elsewhere(found: Iterable[EvidenceState], known: Iterable[EvidenceState], shelf: Shelf) -> list[EvidenceState]:
    """The first of `found` in each place of the text, and none where `known` lies: a second fact stands elsewhere."""
    taken = [_place(item, shelf) for item in known]
    kept: list[EvidenceState] = []
    for item in found:
        place = _place(item, shelf)
        if not any(place[:2] == other[:2] and abs(place[2] - other[2]) < _PLACE for other in taken):
            taken.append(place)
            kept.append(item)
    return kept


def able_first(evidence: Sequence[EvidenceState], question: str, shelf: Shelf) -> list[EvidenceState]:
    """Of the best few quotes those first that hold what a question of this form asks for: a year, a figure, a place."""
    if not _FORMED.match(question):
        return list(evidence)
    near = evidence[:_NEAR]
    able = [bool(_fitting(_text(item, shelf), question)) for item in near]
    first = [item for item, can in zip(near, able, strict=True) if can]
    return [*first, *(item for item, can in zip(near, able, strict=True) if not can), *evidence[_NEAR:]]


def _text(item: EvidenceState, shelf: Shelf) -> str:
    return shelf.text(item["document_id"]).slice(Span(item["start"], item["end"]))


def _sayings(reply: str, question: str) -> list[str]:
    """A reply as it is where it is short, and then the names and figures in it that are new, as far as they fit."""
    said = reply.strip().splitlines()[0].strip(" \"'“”.") if reply.strip() else ""
    held = content(question)
    spans = sorted([*names(said), *figures(said)], key=lambda span: (span.start, -span.end))
    parts = [said[span.start : span.end] for span in spans]
    # One that says much of the question again is a sentence about the answer rather than the answer.
    again = len(content(said) & held)
    short = [said] if 0 < len(said.split()) <= 8 and again * 2 <= len(content(said)) else []
    return [part for part in [*short, *parts] if content(part) - held and _may_answer(part, question)]


def _may_answer(said: str, question: str) -> bool:
    if _WHEN.match(question) or _MANY.match(question):
        return bool(figures(said))
    if re.match(r"(?i)who\b", question):
        return bool(names(said)) and not said[0].isdigit()
    return not _WHERE.match(question) or not (figures(said) or _MONTH.search(said))


def _fitting(characters: str, question: str) -> list[Span]:
    """Spans of a sentence that could answer a question of this form."""
    if _WHEN.match(question):
        return years(characters)
    if _MANY.match(question):
        return figures(characters)
    if _WHERE.match(question):
        new = [span for span in news(characters, [question]) if not _MONTH.match(characters[span.start : span.end])]
        return [span for span in new if _BEFORE_PLACE.search(characters[: span.start])]
    return news(characters, [question]) if _NAMED.match(question) else []


def _answer(item: EvidenceState, span: Span, by: str) -> EvidenceState:
    return EvidenceState(
        document_id=item["document_id"],
        start=span.start,
        end=span.end,
        status="verified",
        by="model" if by == "model" else "search",
        score=item["score"],
        confidence=item["confidence"],
    )


def _place(item: EvidenceState, shelf: Shelf) -> tuple[str, int, int]:
    """Document, paragraph, offset: text without paragraphs has places all the same."""
    paragraph = shelf.text(item["document_id"]).characters.rfind("\n\n", 0, item["start"])
    return item["document_id"], paragraph, item["start"]
