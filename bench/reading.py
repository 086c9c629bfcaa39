"""Search and reading on xquad_en (24 articles, one library) and L-Eval natural questions (ten articles).

    python bench/reading.py                  # search on all questions, reading on 150 of xquad and all 50 of L-Eval
    python bench/reading.py --questions 612  # reading on every question (about an hour on two cores)

Baseline in the same run: plain BM25 (k1 1.2, b 0.75, words as they stand) over chunks of 200 words. A hit must lie in
the right article; on xquad it must cover the answer's own offsets, on L-Eval it must hold the answer's words.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import read_lines, shared_data, write

from longleaf import Answer, Library
from longleaf.retrieval.search import bm25


@dataclass(frozen=True)
class Item:
    """A question. `document` is its article; `span` is where the answer stands, where the data says so."""

    question: str
    document: str
    answers: tuple[str, ...]
    span: tuple[int, int] | None


@dataclass(frozen=True)
class Set:
    """A question set: articles by name, as files, and whether a question goes to all articles or to its own."""

    name: str
    articles: dict[str, str]
    items: list[Item]
    suffix: str
    whole_library: bool


def xquad(data: Path) -> Set:
    articles = {row["doc_id"]: row["text"] for row in read_lines(data / "xquad_en" / "docs.jsonl")}
    items = [
        Item(
            row["question"],
            row["doc_id"],
            tuple(row["answers"]),
            (row["answer_start"], row["answer_start"] + len(row["answers"][0])),
        )
        for row in read_lines(data / "xquad_en" / "qa.jsonl")
    ]
    return Set("xquad", articles, items, ".txt", True)


def natural_question(data: Path) -> Set:
    folder = data / "leval"
    # The articles are HTML whose tags were kept: they are added as the web pages they were.
    articles = {row["doc_id"]: row["text"] for row in read_lines(folder / "natural_question.docs.jsonl")}
    items = [
        Item(row["question"], row["doc_id"], tuple(row["answers"]), None)
        for row in read_lines(folder / "natural_question.qa.jsonl")
    ]
    return Set("natural_question", articles, items, ".html", False)


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def holds(text: str, item: Item) -> bool:
    return any(f" {words(answer)} " in f" {words(text)} " for answer in item.answers)


def baseline_recall(chosen: Set, k: int) -> float:
    """Share of questions with a hit among the first `k` chunks of 200 words."""
    chunks: list[tuple[str, int, int, str]] = []
    for name, text in chosen.articles.items():
        places = [match.span() for match in re.finditer(r"\S+", text)]
        for first in range(0, len(places), 200):
            start, end = places[first][0], places[min(first + 200, len(places)) - 1][1]
            chunks.append((name, start, end, text[start:end]))
    counted = [re.findall(r"\w+", chunk[3].lower()) for chunk in chunks]
    hits = 0
    for item in chosen.items:
        pool = [index for index, chunk in enumerate(chunks) if chosen.whole_library or chunk[0] == item.document]
        scores = bm25(re.findall(r"\w+", item.question.lower()), [counted[index] for index in pool], b=0.75)
        best = [chunks[pool[place]] for place in np.argsort(-scores, kind="stable")[:k]]
        hits += any(_covers(item, name, start, end, text) for name, start, end, text in best)
    return hits / len(chosen.items)


def _covers(item: Item, name: str, start: int, end: int, text: str) -> bool:
    if name != item.document:
        return False
    return start <= item.span[0] and item.span[1] <= end if item.span else holds(text, item)


@contextmanager
def new_library(models: Path | None) -> Iterator[tuple[Library, Path]]:
    """An empty library in a folder of its own, with the models of `models` where that is given."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if models:
            (folder / "library").mkdir()
            (folder / "library" / "models").symlink_to(models.resolve())
        with Library.open(folder / "library") as library:
            yield library, folder


def fill(library: Library, chosen: Set, folder: Path) -> dict[str, str]:
    """Add the articles; returns document ids by article."""
    ids = {}
    for name, text in chosen.articles.items():
        file = folder / f"{name}{chosen.suffix}"
        file.write_text(text, encoding="utf-8")
        ids[name] = library.add(file).id
    return ids


def search_recall(library: Library, chosen: Set, ids: dict[str, str], ks: Sequence[int]) -> dict[int, float]:
    names = {document_id: name for name, document_id in ids.items()}
    hits = dict.fromkeys(ks, 0)
    for item in chosen.items:
        found = library.search.find(item.question, None if chosen.whole_library else [ids[item.document]]).passages
        covered = [
            _covers(
                item,
                names[hit.document_id],
                hit.span.start,
                hit.span.end,
                library.text(hit.document_id).slice(hit.span),
            )
            for hit in found
        ]
        for k in ks:
            hits[k] += any(covered[:k])
    return {k: count / len(chosen.items) for k, count in hits.items()}


@dataclass
class Tally:
    asked: int = 0
    first: int = 0
    three: int = 0
    wording: int = 0
    not_found: int = 0
    by_model: int = 0
    quotes: int = 0
    verbatim: int = 0
    seconds: float = 0.0


def read(library: Library, chosen: Set, ids: dict[str, str], count: int) -> tuple[Tally, list[dict[str, Any]]]:
    """Ask `count` questions, drawn with a fixed seed, and look at quotes and wording."""
    items = random.Random(7).sample(chosen.items, min(count, len(chosen.items)))
    tally, rows = Tally(), []
    for number, item in enumerate(items, 1):
        started = time.perf_counter()
        answer = library.ask(item.question, () if chosen.whole_library else (ids[item.document],))
        tally.seconds += time.perf_counter() - started
        tally.asked += 1
        tally.not_found += not answer.found
        hits = [_quote_hits(library, answer, place, item, ids) for place in range(len(answer.quotes))]
        tally.first += any(hits[:1])
        tally.three += any(hits[:3])
        tally.wording += answer.found and holds(answer.text, item)
        tally.by_model += sum(quote.by == "model" for quote in answer.quotes[:1])
        tally.quotes += len(answer.quotes)
        tally.verbatim += sum(
            library.text(quote.document_id).characters[quote.start : quote.end] == quote.text for quote in answer.quotes
        )
        rows.append({"question": item.question, "gold": item.answers, "answer": answer.text, "hits": hits})
        if number % 25 == 0:
            counts = {"first": tally.first, "three": tally.three, "wording": tally.wording}
            shares = ", ".join(f"{what} {count / number:.1%}" for what, count in counts.items())
            print(f"  {chosen.name}: {number} of {len(items)}: {shares}", flush=True)
    return tally, rows


def _quote_hits(library: Library, answer: Answer, place: int, item: Item, ids: dict[str, str]) -> bool:
    quote = answer.quotes[place]
    return quote.document_id == ids[item.document] and holds(quote.text, item)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--questions", type=int, default=150, help="questions read with the model, per set")
    arguments.add_argument("--pages-questions", type=int, default=50, help="the same, for the web pages of L-Eval")
    arguments.add_argument("--models", type=Path, help="a models folder to use [default: fetch]")
    chosen = arguments.parse_args()
    data = shared_data()
    rows: list[tuple[str, str, str, str]] = []
    details: dict[str, Any] = {}
    quotes = verbatim = 0
    counts = {"xquad": chosen.questions, "natural_question": chosen.pages_questions}
    for questions in (xquad(data), natural_question(data)):
        with new_library(chosen.models) as (library, folder):
            ids = fill(library, questions, folder)
            base = baseline_recall(questions, 5)
            recall = search_recall(library, questions, ids, (1, 5))
            target = f">= {base:.1%}" if questions.name == "xquad" else f">= {base + 0.10:.1%}"
            size = len(questions.items)
            rows.append((f"{questions.name} recall@5 ({size} questions)", f"{recall[5]:.1%}", f"{base:.1%}", target))
            rows.append((f"{questions.name} recall@1", f"{recall[1]:.1%}", f"{baseline_recall(questions, 1):.1%}", ""))
            print("\n".join(str(row) for row in rows[-2:]), flush=True)
            tally, answers = read(library, questions, ids, counts[questions.name])
            details[questions.name] = {"tally": tally.__dict__, "answers": answers}
            quotes, verbatim = quotes + tally.quotes, verbatim + tally.verbatim
            goals = (">= 75%", ">= 90%", ">= 35%") if questions.name == "xquad" else ("", "", "")
            for what, value, goal in zip(
                ("first", "three", "wording"), (tally.first, tally.three, tally.wording), goals, strict=True
            ):
                label = {
                    "first": "first quote holds the answer",
                    "three": "one of the first three quotes does",
                    "wording": "the model's wording does",
                }[what]
                rows.append((f"{questions.name}: {label} (n={tally.asked})", f"{value / tally.asked:.1%}", "", goal))
            rows.append((f"{questions.name}: said 'not found'", f"{tally.not_found / tally.asked:.1%}", "", ""))
            rows.append((f"{questions.name}: seconds a question, mean", f"{tally.seconds / tally.asked:.1f}", "", ""))
    rows.append(("displayed quotes verbatim at their offsets", f"{verbatim} of {quotes}", "", "100%"))
    write("reading", rows, details)


if __name__ == "__main__":
    main()
