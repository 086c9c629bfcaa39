"""Questions with the text that answers them, from the training files, in one form.

Files of `hotpotqa/train_distractor.jsonl`, `musique/train.jsonl` and `train_reader/`, and any in SQuAD's own form.
Evaluation files are not read here; `overlap.py` checks that nothing of theirs comes in under another name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.text import Span

_LONGEST_ANSWER = 90
"""Characters; what is longer is no short answer."""

_AGREED = 0.4
"""Least mean overlap of an answer with those that others gave to the same question."""

_SHORT = ("squad_train", "squadshifts_new", "fairytaleqa", "qed_dev", "covid_qa", "timeqa_human", "tatqa")
_QUOTING = ("derived_evidence", "selqa", "qed_dev")
_SEVERAL = ("2wiki_train", "hotpot_train_sentences")
_CHOICES = ("boolq_val", "fever_part")
_SUMMARIES = ("scitldr", "legal_plain", "qmsum_train", "crd3", "mts_dialog")


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph; `title` is empty where it has none."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question on passages.

    `gold` are the places of the passages it needs; `evidence` the sentences that answer, each found in one of them;
    `steps` the simpler questions it consists of. No answers: the passages do not tell.
    """

    id: str
    source: str
    text: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    gold: tuple[int, ...]
    evidence: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def needed(self) -> list[Passage]:
        return [self.passages[place] for place in self.gold]


@dataclass(frozen=True, slots=True)
class Summary:
    """A text and what it says in short; `task` is how the file asks for it."""

    id: str
    source: str
    text: str
    task: str
    summary: str


@dataclass(slots=True)
class Pool:
    """Everything there is to make examples from."""

    short: list[Question] = field(default_factory=list)
    several: list[Question] = field(default_factory=list)
    quoting: list[Question] = field(default_factory=list)
    choices: list[Question] = field(default_factory=list)
    nowhere: list[Question] = field(default_factory=list)
    stories: list[Question] = field(default_factory=list)
    plans: list[Question] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    filler: list[Passage] = field(default_factory=list)
    articles: dict[str, list[Passage]] = field(default_factory=dict)
    """Filler by its title."""


def read(data: Path, squad: Sequence[Path] = ()) -> Pool:
    """All training questions under the folder `data`, and those of files in the form of SQuAD 1.1, each once."""
    pool = Pool()
    folder = data / "train_reader"
    for row in _all(folder, _SHORT):
        _extractive(row, pool)
    asked = {(question.text, question.passages[0].text) for question in pool.short}
    for row in (row for file in squad for row in _squad(file)):
        this = (row["question"].strip(), row["context"].strip())
        if this not in asked:
            asked.add(this)
            _extractive(row, pool)
    pool.nowhere += [_plain(row, ()) for row in _all(folder, ("derived_unanswerable",))]
    for row in _all(folder, _QUOTING):
        if row["task"] == "evidence" and row["answers"][0] in row["context"]:
            pool.quoting.append(_plain(row, (row["answers"][0].strip(),), tuple(row.get("short_answers", ()))))
    pool.several += [_multihop(row, tuple(row.get("evidence", ()))) for row in _all(folder, _SEVERAL)]
    pool.several += [_multihop(row, ()) for row in _all(data / "hotpotqa", ("train_distractor",))]
    musique = [_multihop(row, _step_sentences(row), _steps(row)) for row in _all(data / "musique", ("train",))]
    pool.several += musique
    pool.plans += [question for question in musique if question.steps]
    pool.choices += [_plain(row, (), tuple(row["answers"])) for row in _all(folder, _CHOICES)]
    pool.plans += [_multihop(row, (), tuple(row["decomposition"])) for row in _all(folder, ("strategyqa_train",))]
    stories = _all(folder, ("babi_train",))
    pool.stories += [_plain(row, tuple(row["evidence"]), tuple(row["answers"])) for row in stories]
    for row in _all(folder, _SUMMARIES):
        summary = " ".join(row["answers"][0].split())
        pool.summaries.append(Summary(row["id"], row["source"], row["context"].strip(), row["question"], summary))
    # Filler is what a reader passes over: real paragraphs, each once, of questions that are not asked about them.
    seen: dict[str, Passage] = {}
    for question in (*pool.several, *pool.short):
        for passage in question.passages:
            seen.setdefault(passage.text, passage)
    pool.filler = [passage for text, passage in seen.items() if 120 < len(text) < 2500]
    for passage in pool.filler:
        pool.articles.setdefault(passage.title, []).append(passage)
    return pool


def sentence_at(text: str, start: int) -> str:
    """The sentence of `text` that holds character `start`."""
    for span in sentences(text, Span(0, len(text))):
        if span.start <= start < span.end:
            inner = trimmed(text, span)
            return text[inner.start : inner.end]
    raise ValueError(f"character {start} is outside the text")


def _all(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def _squad(file: Path) -> Iterator[dict[str, Any]]:
    """The questions of a file in SQuAD's form, each with the answer that its annotators agree on most."""
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for part in article["paragraphs"]:
            for item in part["qas"]:
                told = item["answers"]
                chosen = max(told, key=lambda answer: (_agreed(answer, told), -len(answer["text"])), default=None)
                if chosen and _agreed(chosen, told) >= _AGREED:
                    yield {
                        "id": f"{file.stem}-{item['id']}",
                        "source": file.stem,
                        "task": "extractive",
                        "title": article["title"],
                        "context": part["context"],
                        "question": item["question"],
                        "answers": [chosen["text"]],
                        "answer_start": chosen["answer_start"],
                    }


def _agreed(answer: dict[str, Any], told: Sequence[dict[str, Any]]) -> float:
    """Mean F1 of an answer's words against all that were given, itself among them."""
    return sum(_overlap(answer["text"], other["text"]) for other in told) / len(told)


def _overlap(one: str, other: str) -> float:
    mine, theirs = Counter(one.lower().split()), Counter(other.lower().split())
    return 2 * (mine & theirs).total() / max(1, mine.total() + theirs.total())


def _plain(row: dict[str, Any], evidence: tuple[str, ...], answers: tuple[str, ...] = ()) -> Question:
    passage = Passage(row.get("title", "").replace("_", " "), row["context"].strip())
    return Question(row["id"], row["source"], row["question"].strip(), answers, (passage,), (0,), evidence)


def _extractive(row: dict[str, Any], pool: Pool) -> None:
    if row["task"] == "unanswerable":
        pool.nowhere.append(_plain(row, ()))
        return
    if row["task"] != "extractive":
        return
    answer = row["answers"][0].strip()
    bare = answer.rstrip(".") if not re.search(r"\b\w\.$", answer) else answer
    start = row["context"].find(row["answers"][0], max(0, row["answer_start"] - 2))
    if not bare or len(bare) > _LONGEST_ANSWER or start < 0:
        return
    lead = len(row["context"]) - len(row["context"].lstrip())
    sentence = sentence_at(row["context"].strip(), max(0, start - lead))
    if bare not in sentence:
        return  # the answer runs over a sentence's end
    pool.short.append(_plain(row, (sentence,), (bare, *row["answers"][1:])))


def _multihop(row: dict[str, Any], evidence: tuple[str, ...], steps: tuple[str, ...] = ()) -> Question:
    passages = tuple(Passage(part["title"], part["text"].strip()) for part in row["paragraphs"])
    titles = set(row["supporting_titles"])
    gold = tuple(place for place, part in enumerate(row["paragraphs"]) if part["title"] in titles)
    held = tuple(sentence for sentence in evidence if any(sentence in passage.text for passage in passages))
    source = row.get("source", row["id"].split("-")[0])
    answers = tuple(answer.strip() for answer in row["answers"])
    question = Question(row["id"], source, row["question"].strip(), answers, passages, gold, held, steps)
    return question if held else _with_evidence(question)


def _with_evidence(question: Question) -> Question:
    """Sentences of the needed passages that name the answer or another needed passage; the file does not say which."""
    answer = question.answers[0]
    titles = [passage.title for passage in question.needed]
    found: list[str] = []
    for passage in question.needed:
        parts = sentences_of(passage.text)
        named = [part for part in parts if answer in part and len(answer) > 1]
        named += [part for part in parts if any(_bare(title) in part for title in titles if title != passage.title)]
        found += named[:1] or parts[:1]
    kept = tuple(dict.fromkeys(found))
    return Question(
        question.id, question.source, question.text, question.answers, question.passages, question.gold, kept,
        question.steps,
    )  # fmt: skip


def _bare(title: str) -> str:
    return re.sub(r"\s*\(.*\)$", "", title)


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, without the space around them."""
    spans: Sequence[Span] = [trimmed(text, span) for span in sentences(text, Span(0, len(text)))]
    return [text[span.start : span.end] for span in spans if len(span) > 1]


def _step_sentences(row: dict[str, Any]) -> tuple[str, ...]:
    """For each step of a MuSiQue question, the first sentence of a needed passage that holds the step's answer."""
    titles = set(row["supporting_titles"])
    texts = [part["text"].strip() for part in row["paragraphs"] if part["title"] in titles]
    found: list[str] = []
    for step in row["decomposition"]:
        held = [part for text in texts for part in sentences_of(text) if step["answer"] in part]
        words = set(re.findall(r"\w{4,}", step["question"].lower()))
        held.sort(key=lambda part: -len(words & set(re.findall(r"\w{4,}", part.lower()))))
        found += held[:1]
    return tuple(dict.fromkeys(found))


def _steps(row: dict[str, Any]) -> tuple[str, ...]:
    steps = [step["question"].strip() for step in row["decomposition"]]
    if any(">>" in step for step in steps):
        return ()  # "Hello Love >> performer" is no question
    steps = [re.sub(r"\s+([?.])", r"\1", step).rstrip("?. ") + "?" for step in steps]
    return tuple(step[:1].upper() + step[1:] for step in steps)
