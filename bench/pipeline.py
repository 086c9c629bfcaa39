"""The parts of `bench/model.py` that go through readers: search, checked quotes, memory, and the answer at the end.

Tasks beside those of `items`: `search` (xquad, all articles in one document), `absent` (the same without the question's
article) and `near` (the article without the paragraph that answers; what else it says may answer a few of these).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from items import Item, Items
from libraries import CachedEmbedder, Libraries
from probes import Xquad
from schedule import key_of, run
from trials import Bench, Row, Trial

from longleaf.engine.contract import Engine
from longleaf.engine.gather import Gather
from longleaf.retrieval.embedding import Embedder

SHORT, LONG = 4096, 8192
PLAN = {
    "search": (("search", 0, "retrieve"),),
    "unanswerable": (("absent", 0, "retrieve"), ("near", 0, "retrieve")),
    "long": (("hotpot", LONG, "retrieve"),),
    "babi": (("qa1", SHORT, "memory"), ("qa2", SHORT, "memory")),
}
"""Tasks, lengths and readers of a part."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What the readers are run with; `embedder` is kept for all models, since their documents are the same."""

    questions: Xquad
    items: Items
    embedder: CachedEmbedder

    def rows(self, engine: Engine, counts: Mapping[str, int], file: Path) -> list[Row]:
        """Rows of the parts in `counts`, of so many questions a task; `file` keeps them, and a later run goes on."""
        trials = [
            Trial(task, length, number, reader)
            for part, count in counts.items()
            for task, length, reader in PLAN[part]
            for number in range(self._size(task, count))
        ]
        make = cache(self._make)
        with tempfile.TemporaryDirectory() as kept, ExitStack() as stack:
            libraries = Libraries(Gather(engine), self.embedder, Path(kept))
            if any(trial.task == "search" for trial in trials):
                stack.enter_context(libraries.use(make("search", 0, 0)))  # one library for all of these, kept open
            found = run(trials, Bench(make, libraries), file)
        wanted = {trial.key() for trial in trials}
        return [row for row in found if key_of(row) in wanted]

    def _size(self, task: str, count: int) -> int:
        if task in ("search", "absent", "near"):
            return min(count, len(self.questions.questions))
        return min(count, self.items.size(task) or count)

    def _make(self, task: str, length: int, number: int) -> Item:
        if task not in ("search", "absent", "near"):
            return self.items.make(task, length, number)
        asked = self.questions.questions[number]
        articles = self.questions.articles
        if task == "near":
            parts = [part for place, part in enumerate(articles[asked.article]) if place != asked.paragraph]
            return Item(task, 0, number, asked.text, (), "\n\n".join(parts), ())
        if task == "absent":
            others = [article for place, article in enumerate(articles) if place != asked.article]
            return Item(task, 0, asked.article, asked.text, (), _joined(others), ())
        start = len(_joined(articles[: asked.article])) + (2 if asked.article else 0) + asked.start
        span = (start, start + len(asked.golds[0]))
        return Item(task, 0, 0, asked.text, asked.golds, _joined(articles), (span,))


def pipeline(questions: Xquad, items: Items, embedder: Embedder) -> Pipeline:
    """A pipeline whose embedder remembers what it has seen."""
    return Pipeline(questions, items, CachedEmbedder(embedder))


def _joined(articles: tuple[tuple[str, ...], ...] | list[tuple[str, ...]]) -> str:
    return "\n\n".join("\n\n".join(article) for article in articles)
