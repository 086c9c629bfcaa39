"""What of the training data an evaluation set holds too: by question and by context."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sources import Passage, Pool, Question

_SHINGLE = 12
"""Words in a row that make two contexts the same text: shorter runs are names and set phrases."""

_SHARE = 0.2
"""Share of a context's runs of words that makes it an evaluation set's."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Questions, runs of words, and bAbI's stories with their questions, of the evaluation sets.

    The benches' filler is not among them: `paragraph_pool.jsonl` holds the paragraphs of HotpotQA's training questions
    too, and nothing is asked about it.
    """

    questions: frozenset[str]
    runs: frozenset[int]
    stories: frozenset[str]

    @classmethod
    def read(cls, data: Path) -> Evaluation:
        """All evaluation files that `data` holds."""
        questions: set[str] = set()
        runs: set[int] = set()
        files = [
            *sorted((data / "xquad_en").glob("*.jsonl")),
            data / "hotpotqa" / "dev_distractor.jsonl",
            *(
                file
                for name in ("leval", "bamboo", "qmsum", "squality")
                for file in sorted((data / name).glob("*.jsonl"))
            ),
        ]
        for file in files:
            for line in file.read_text(encoding="utf-8").splitlines():
                if line:
                    _take(json.loads(line), questions, runs)
        stories = {story for file in sorted((data / "babi" / "en").glob("*.txt")) for story in _stories(file)}
        return cls(frozenset(questions), frozenset(runs), frozenset(stories))

    def asks(self, question: str) -> bool:
        """Whether an evaluation set asks this, of these words."""
        return folded(question) in self.questions

    def holds(self, text: str) -> bool:
        """Whether a text is one of an evaluation set."""
        mine = shingles(text)
        return bool(mine) and len(mine & self.runs) / len(mine) > _SHARE

    def tells(self, story: str, question: str) -> bool:
        """Whether an evaluation set has this bAbI story with this question."""
        return folded(f"{story} {question}") in self.stories


def _stories(file: Path) -> Iterator[str]:
    """Every question of a bAbI file behind the story up to it."""
    told: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            told = []
        question, tab, _ = rest.partition("\t")
        if tab:
            yield folded(f"{' '.join(told)} {question}")
        else:
            told.append(rest)


def folded(text: str) -> str:
    """Words alone, lower case."""
    return " ".join(re.findall(r"\w+", text.lower()))


def shingles(text: str) -> set[int]:
    """Hashes of all runs of twelve words."""
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[at : at + _SHINGLE])) for at in range(len(words) - _SHINGLE + 1)}


def without(pool: Pool, evaluation: Evaluation) -> tuple[Pool, Counter[str]]:
    """The pool without what an evaluation set holds, and how many questions of each source were left out.

    A HotpotQA paragraph that an evaluation set also uses, among the ten of another question, is taken out of these ten;
    the question is left out where it needs that paragraph.
    """
    dropped: Counter[str] = Counter()
    held: dict[str, bool] = {}

    def known(text: str) -> bool:
        if text not in held:
            held[text] = evaluation.holds(text)
        return held[text]

    kept = Pool(
        short=list(_clean(pool.short, evaluation, known, dropped)),
        several=list(_clean(pool.several, evaluation, known, dropped)),
        quoting=list(_clean(pool.quoting, evaluation, known, dropped)),
        choices=list(_clean(pool.choices, evaluation, known, dropped)),
        nowhere=list(_clean(pool.nowhere, evaluation, known, dropped)),
        stories=[item for item in pool.stories if not evaluation.tells(item.passages[0].text, item.text)],
        plans=list(_clean(pool.plans, evaluation, known, dropped)),
        summaries=[item for item in pool.summaries if not known(item.text)],
        filler=[item for item in pool.filler if not known(item.text)],
    )
    dropped["summaries"] += len(pool.summaries) - len(kept.summaries)
    dropped["stories"] += len(pool.stories) - len(kept.stories)
    dropped["filler"] += len(pool.filler) - len(kept.filler)
    for passage in kept.filler:
        kept.articles.setdefault(passage.title, []).append(passage)
    return kept, +dropped


def _clean(
    questions: Iterable[Question], evaluation: Evaluation, known: Callable[[str], bool], dropped: Counter[str]
) -> Iterable[Question]:
    for question in questions:
        if evaluation.asks(question.text) or any(known(passage.text) for passage in question.needed):
            dropped[question.source] += 1
            continue
        left = [
            place
            for place, passage in enumerate(question.passages)
            if place in question.gold or not known(passage.text)
        ]
        yield _only(question, left)


def _only(question: Question, places: list[int]) -> Question:
    passages: tuple[Passage, ...] = tuple(question.passages[place] for place in places)
    gold = tuple(places.index(place) for place in question.gold)
    return Question(
        question.id, question.source, question.text, question.answers, passages, gold, question.evidence, question.steps
    )  # fmt: skip


def _take(row: dict[str, Any], questions: set[str], runs: set[int]) -> None:
    for key, value in row.items():
        if key in ("question", "query", "instruction") and isinstance(value, str):
            questions.add(folded(value))
        elif key == "questions":
            questions.update(folded(item if isinstance(item, str) else str(item.get("question", ""))) for item in value)
        elif isinstance(value, str) and len(value) > 200:
            runs.update(shingles(value))
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _take(item, questions, runs)
