"""One question, several readers: whether their answers agree, and where they differ. Judged by code, not by a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longleaf.agents.errors import TooFewReaders
from longleaf.agents.names import content
from longleaf.agents.reader import Answer, Quote
from longleaf.agents.registry import reader
from longleaf.agents.router import AUTO
from longleaf.agents.run import to_json
from longleaf.retrieval.text import Span

_ENOUGH_F1 = 0.6
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(r"(?i)\b(?:no|not|never|none|nor|neither|without|cannot|\w+n't)\b")
_QUOTES_TOLD = 3
_QUOTED = 160


@dataclass(frozen=True, slots=True)
class Comparison:
    """Answers of several readers to one question.

    `agree` holds where all found something, or none did, and no two answers say different things. `differences` are
    sentences for people, with pages: what is said differently, and what only one of them quotes.
    """

    question: str
    answers: tuple[Answer, ...]
    agree: bool
    differences: tuple[str, ...]


def comparable(readers: Sequence[str]) -> tuple[str, ...]:
    """Names of readers that can be compared. Raises `TooFewReaders` and `ReaderUnknown`, before any has read."""
    if len(readers) < 2:
        raise TooFewReaders("Name two readers to compare, such as retrieve,memory; `longleaf readers` lists them.")
    for name in readers:
        if name != AUTO:
            reader(name)
    return tuple(readers)


def compared(question: str, answers: Sequence[Answer]) -> Comparison:
    """Compare answers to `question`; each is held against the first."""
    agree = True
    differences: list[str] = []
    names = _names(answers)
    for place in range(1, len(answers)):
        pair = [(names[0], answers[0]), (names[place], answers[place])]
        same = _agree(question, answers[0], answers[place])
        agree = agree and same
        if not same:
            differences.append("; ".join(_says(name, answer) for name, answer in pair) + ".")
        differences += _figures(question, pair)
        differences += _quotes(pair)
    differences += [
        f"The answer of {name} is partial." for name, answer in zip(names, answers, strict=True) if answer.partial
    ]
    return Comparison(question, tuple(answers), agree, tuple(dict.fromkeys(differences)))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON values."""
    plain = {key: value for key, value in asdict(comparison).items() if key != "answers"}
    return {
        **plain,
        "differences": list(comparison.differences),
        "answers": [to_json(answer) for answer in comparison.answers],
    }


def _agree(question: str, one: Answer, two: Answer) -> bool:
    """Found flags first, then figures, denial and words; an answer without words of its own is judged by its place."""
    if one.found != two.found or not one.found:
        return one.found == two.found
    figures = [_new_figures(answer.text, question) for answer in (one, two)]
    if all(figures) and not figures[0] & figures[1]:
        return False
    words = [content(answer.text) - content(question) for answer in (one, two)]
    if bool(_NEGATION.search(one.text)) != bool(_NEGATION.search(two.text)):
        return False
    if not all(words):
        return words[0] == words[1] or _share_a_place(one, two)
    common = len(words[0] & words[1])
    contained = common == min(len(words[0]), len(words[1]))
    return contained or 2 * common / (len(words[0]) + len(words[1])) >= _ENOUGH_F1


def _share_a_place(one: Answer, two: Answer) -> bool:
    """Whether the best quote of each lies where the other quotes too."""
    return _held(one.quotes[0], two.quotes) and _held(two.quotes[0], one.quotes)


def _held(item: Quote, quotes: Sequence[Quote]) -> bool:
    span = Span(item.start, item.end)
    return any(
        item.document_id == other.document_id and span.overlaps(Span(other.start, other.end)) for other in quotes
    )


def _new_figures(text: str, question: str) -> set[str]:
    return set(_FIGURE.findall(text)) - set(_FIGURE.findall(question))


def _says(name: str, answer: Answer) -> str:
    if not answer.found:
        return f"{name} finds nothing in the text"
    return f"{name} says “{_short(answer.text)}” ({_where(answer.quotes[0])})"


def _figures(question: str, pair: Sequence[tuple[str, Answer]]) -> list[str]:
    found = [(name, _new_figures(answer.text, question)) for name, answer in pair if answer.found]
    if len(found) < 2 or found[0][1] == found[1][1]:
        return []
    told = [f"{name} gives {', '.join(sorted(figures)) or 'none'}" for name, figures in found]
    return [f"The figures differ: {'; '.join(told)}."]


def _quotes(pair: Sequence[tuple[str, Answer]]) -> list[str]:
    if not all(answer.found for _, answer in pair):
        return []
    told: list[str] = []
    for (name, answer), (_, other) in (pair, pair[::-1]):
        alone = [item for item in dict.fromkeys(answer.quotes) if not _held(item, other.quotes)]
        told += [f"Only {name} quotes {_where(item)}: “{_short(item.text)}”" for item in alone[:_QUOTES_TOLD]]
        if len(alone) > _QUOTES_TOLD:
            told.append(f"{len(alone) - _QUOTES_TOLD} more quotes are in {name} only.")
    return told


def _names(answers: Sequence[Answer]) -> list[str]:
    """The readers' names, numbered where one was asked twice."""
    names = [answer.reader for answer in answers]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _where(item: Quote) -> str:
    return f"page {item.page}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _QUOTED else f"{flat[: _QUOTED - 1].rstrip()}…"
