"""Questions put to a model at once, with the text before it, in the prompts that the readers end with.

Needs the engine and torch alone, no database and no graph: a bare GPU host can run them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from items import GOLD, Items
from report import read_lines
from score import exact, f1, holds, normalised

from longleaf.agents.denial import AMONG, MARGIN, NOT_IN_TEXT, denied
from longleaf.agents.prompt import load
from longleaf.engine.contract import Done, Engine, Failed, Grammar, Request, Sampling

ANSWER_TOKENS = 96
"""As `agents.reader.Budget` has it, which cannot be imported on a bare host."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """A question and the text it is put to. Without `golds` the text does not answer it. `kind` is a kind of text."""

    part: str
    kind: str
    number: int
    question: str
    text: str
    golds: tuple[str, ...]
    prompt: str = "reason"


@dataclass(frozen=True, slots=True)
class Question:
    """A question of xquad: the article it is about, by its place, and the paragraph that answers."""

    text: str
    golds: tuple[str, ...]
    article: int
    paragraph: int
    start: int


@dataclass(frozen=True, slots=True)
class Xquad:
    """The articles, each as paragraphs, and the questions in an order drawn once, so that few are a fair sample."""

    articles: tuple[tuple[str, ...], ...]
    questions: tuple[Question, ...]


def xquad(data: Path, seed: int = 0) -> Xquad:
    """The question set of `xquad_en`."""
    documents = read_lines(data / "xquad_en" / "docs.jsonl")
    places = {row["doc_id"]: place for place, row in enumerate(documents)}
    questions = [
        Question(row["question"], tuple(row["answers"]), places[row["doc_id"]], row["paragraph"], row["answer_start"])
        for row in read_lines(data / "xquad_en" / "qa.jsonl")
    ]
    random.Random(f"{seed}:xquad").shuffle(questions)
    return Xquad(tuple(tuple(row["text"].split("\n\n")) for row in documents), tuple(questions))


def paragraphs(chosen: Xquad, count: int) -> list[Probe]:
    """Each question with the paragraph that answers it."""
    return [
        Probe("paragraph", "xquad", number, item.text, chosen.articles[item.article][item.paragraph], item.golds)
        for number, item in enumerate(chosen.questions[:count])
    ]


def lacking(chosen: Xquad, count: int) -> list[Probe]:
    """Each question twice: with a paragraph of another article, and with the nearest of its own that lacks the answer.

    The nearest shares the most words with the question, and neither holds the gold answer's words.
    """
    probes = []
    for number, item in enumerate(chosen.questions[:count]):
        own = chosen.articles[item.article]
        near = [part for place, part in enumerate(own) if place != item.paragraph and _lacks(part, item.golds)]
        draw = random.Random(f"lacking:{number}")
        others = [place for place in range(len(chosen.articles)) if place != item.article]
        far = [part for part in chosen.articles[draw.choice(others)] if _lacks(part, item.golds)]
        if near:
            words = set(_words(item.text))
            nearest = max(near, key=lambda part: len(words & set(_words(part))))
            probes.append(Probe("unanswerable", "near miss", number, item.text, nearest, ()))
        if far:
            probes.append(Probe("unanswerable", "other article", number, item.text, draw.choice(far), ()))
    return probes


def _lacks(part: str, golds: Sequence[str]) -> bool:
    """Whether a paragraph says something, and not the answer."""
    return bool(part.strip()) and not holds(part, golds)


def made(items: Items, part: str, tasks: Iterable[str], length: int, count: int) -> list[Probe]:
    """Items of `tasks` at a length as probes; GOLD and 0 as in `items`."""
    found = []
    for task in tasks:
        for number in range(min(count, items.size(task) or count)):
            item = items.make(task, length, number)
            kind = f"{task}, gold" if length == GOLD else task
            found.append(Probe(part, kind, number, item.question, item.text, item.golds, "direct"))
    return found


def request(probe: Probe, id_: str, held: bool = False) -> Request:
    """The request that a reader would make, at temperature 0; `held` to spans of the text as with `read.copy_spans`."""
    prompt = load(probe.prompt)
    grammar = Grammar.span(probe.text, (NOT_IN_TEXT,), MARGIN, AMONG) if held else None
    messages = prompt.messages(quotes=probe.text, document=probe.text, question=probe.question)
    sampling = Sampling(max_tokens=ANSWER_TOKENS, stop=("\n\n",), seed=0, grammar=grammar)
    return Request(id_, messages, sampling, prompt.prefix)


def asked(engine: Engine, probes: Sequence[Probe], held: bool = False) -> list[Row]:
    """Put all probes to a model in batches; a row each, in their order. A failed one has the row of an empty reply."""
    rows: dict[str, Row] = {}
    for event in engine.generate([request(probe, str(place), held) for place, probe in enumerate(probes)]):
        if isinstance(event, Done):
            rows[event.request_id] = _row(probes[int(event.request_id)], event.text.strip(), event.stop_reason)
        elif isinstance(event, Failed):
            rows[event.request_id] = _row(probes[int(event.request_id)], "", f"failed: {event.error}")
    return [rows[str(place)] for place in range(len(probes))]


def _row(probe: Probe, reply: str, stop: str) -> Row:
    return {
        "part": probe.part,
        "kind": probe.kind,
        "number": probe.number,
        "question": probe.question,
        "golds": list(probe.golds),
        "reply": reply,
        "stop": stop,
        "exact": exact(reply, probe.golds),
        "f1": f1(reply, probe.golds),
        "right": holds(reply, probe.golds),
        "denied": denied(reply),
        "in_text": bool(normalised(reply)) and f" {normalised(reply)} " in f" {normalised(probe.text)} ",
    }


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 3]
