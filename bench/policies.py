"""What each decode policy still finds when it reads little: needles and questions in documents that fit the window.

    python bench/policies.py                          # 10 needles at budgets 64 to 2048, 40 questions of xquad at 512
    python bench/policies.py --items 40 --length 7000 --device cuda
    python bench/policies.py --parts needles --policies "quest;page_mass" --budgets 256,512

A document is read once, exactly, and every policy answers from the same keys and values, so only what a reply reads
differs. A budget counts everything a step reads: with pages of 16 tokens, 16 sinks and an eighth of the budget at the
end. The first two layers read everything in every policy but tokenselect and a_shape, as in Quest.

needles: made-up filler with one number to be found, and `--others` of the same kind beside it. Right: the reply holds
the number. Shown: the page that holds it is among the three that the reply names as read most. prompts: the same
documents read by policies for prompts, whose question and reply read all there is. xquad: an article's
paragraphs as one document, in the prompt of the reader `kv`, a few questions on each article. Right: the reply holds
the gold answer.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from probes import xquad
from report import ROOT, keep, machine, shared_data, table
from score import exact, f1, holds

from longleaf.agents.prompt import load
from longleaf.engine.attention.bank import SummaryBank
from longleaf.engine.attention.contract import Policy
from longleaf.engine.attention.document import Document, greedy
from longleaf.engine.attention.plans import ReadingPlan
from longleaf.engine.attention.policies.a_shape import AShape
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.policies.flexprefill import FlexPrefill
from longleaf.engine.attention.policies.landmark import landmark
from longleaf.engine.attention.policies.page_mass import page_mass
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.policies.reused import Reused
from longleaf.engine.attention.policies.squeezed import Squeezed
from longleaf.engine.attention.policies.tokenselect import TokenSelect
from longleaf.engine.attention.policies.trianglemix import TriangleMix
from longleaf.engine.attention.policies.two_level import two_level
from longleaf.engine.attention.policies.vertical_slash import VerticalSlash
from longleaf.engine.attention.runner import Runner, shape_of
from longleaf.engine.attention.selection import Budget
from longleaf.engine.attention.summary.gaussian import Gaussian
from longleaf.engine.backends.open import open_engine
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.catalog import DEFAULT_READER
from longleaf.engine.contract import Message, Reply
from longleaf.engine.needle_facts import filler
from longleaf.engine.pages.store import PageStore
from longleaf.engine.store import ModelStore

POLICIES: dict[str, Callable[[Budget], Policy]] = {
    "a_shape": lambda budget: AShape(budget.sinks, budget.tokens - budget.sinks - 16),
    "landmark": landmark,
    "quest": quest,
    "quest, nrm": lambda budget: quest(budget, join="nrm"),
    "two_level": two_level,
    "page_mass": page_mass,
    "page_mass, gaussian": lambda budget: page_mass(budget, summary=Gaussian()),
    "squeezed": Squeezed,
    "tokenselect": TokenSelect,
    "quest, 4 steps": lambda budget: Reused(quest(budget), 4),
}
PROMPTS: dict[str, Policy] = {
    "dense": Dense(),
    "a_shape, 768 tokens": AShape(128, 640),
    "vertical_slash, 4 and 4 blocks": VerticalSlash(4, 4),
    "flexprefill, 0.9": FlexPrefill(),
    "trianglemix, 512 tokens": TriangleMix(recent=512),
}
KEYS = ("harvest", "lantern", "copper", "orchard", "violet", "granite", "meadow", "pepper", "walnut", "saddle")
PAGE = 16
QUESTION_BUDGET = 512
QUESTIONS = 5
TARGET = 0.02
"""What the best policy may lose of dense attention's share of right answers."""

Row = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that follows a document as token ids, what a right reply holds, and the tokens where it stands."""

    ids: list[int]
    golds: tuple[str, ...]
    place: tuple[int, int] | None = None


class Bench:
    """A model, and documents that it reads."""

    def __init__(self, engine: TorchEngine, budgets: Sequence[int], names: Sequence[str]) -> None:
        self._engine = engine
        self._model = engine._model
        self._budgets, self._names = budgets, names
        self._ends = list(engine._ends)

    def needle(self, length: int, number: int, others: int) -> Row:
        """What every policy makes of the `number`-th document of about `length` tokens."""
        document, question = self._planted(length, number, others)
        (row,) = self._asked(document, [question], self._budgets, 8)
        return row

    def prompt(self, length: int, number: int, others: int) -> Row:
        """The same document read by every policy of `PROMPTS`; question and reply read all there is."""
        document, question = self._planted(length, number, others)
        store = PageStore(shape_of(self._model, PAGE), device=self._model.device)
        runner = Runner(self._model, store)
        row: Row = {}
        for name, policy in PROMPTS.items():
            sequence = store.new()
            runner.prefill(sequence, document, policy)
            runner.prefill(sequence, question.ids[:-1])
            tokens = [*document, *question.ids[:-1]]
            whole = Document(runner, sequence, tokens, ReadingPlan(name), self._engine.card.window)
            said = Said(self._engine._tokenizer, question, self._ends)
            whole.answer(question.ids[-1:], max_tokens=8, stop_tokens=self._ends, pick=said.pick)
            row[name] = {"right": question.golds[0] in said.text}
            store.drop(sequence)
        return row

    def _planted(self, length: int, number: int, others: int) -> tuple[list[int], Question]:
        """A document's token ids, and the question for the number in it, in the model's own form of a turn."""
        draw = random.Random(f"policies {length} {number}")
        facts = [(key, str(draw.randrange(100_000, 999_999))) for key in draw.sample(KEYS, 1 + others)]
        lines = [draw.choice(filler()) for _ in range(length // 14)]
        for key, value in facts:
            lines.insert(draw.randrange(5, len(lines) - 5), f"One of the special magic numbers for {key} is: {value}.")
        key, value = facts[0]
        at = next(place for place, line in enumerate(lines) if value in line)
        form = self._engine._form

        def opened(count: int) -> tuple[Message, ...]:
            return (Message("user", " ".join(lines[:count])),)

        whole = opened(len(lines))
        asked = f"{whole[0].content}\nWhat is the special magic number for {key} mentioned in the text?"
        begun = f"The special magic number for {key} mentioned in the text is"
        place = (len(form.beginning(opened(at))), len(form.beginning(opened(at + 1))))
        return form.beginning(whole), Question(form.after(whole, (Message("user", asked),), begun).ids, (value,), place)

    def article(self, paragraphs: Sequence[str], questions: Sequence[tuple[str, tuple[str, ...]]]) -> Iterator[Row]:
        """What every policy makes of questions on an article, a row each."""
        prompt, form = load("kv"), self._engine._form
        text = "\n\n".join(paragraphs)
        opening = prompt.opening("question", document=text)
        given = [
            Question(form.after(opening, prompt.messages(document=text, question=asked), prompt.prefix).ids, golds)
            for asked, golds in questions
        ]
        return self._asked(form.beginning(opening), given, (QUESTION_BUDGET,), 32)

    def _asked(
        self, document: list[int], questions: Sequence[Question], budgets: Sequence[int], tokens: int
    ) -> Iterator[Row]:
        """Replies to each question by every policy at every budget; document and questions are computed once."""
        store = PageStore(shape_of(self._model, PAGE), device=self._model.device)
        exact_reader = Runner(self._model, store)
        sequence = store.new()
        exact_reader.prefill(sequence, document)
        banks: dict[str, SummaryBank] = {}
        indexes: dict[str, dict[int, object]] = {}
        for question in questions:
            read = store.fork(sequence, len(document))
            exact_reader.prefill(read, question.ids[:-1])
            row: Row = {}
            for name, policy in self._policies(budgets):
                plan = ReadingPlan(name, answering=policy)
                runner = Runner(self._model, store)
                if plan.summary is not None:
                    kind = repr(plan.summary)
                    if kind not in banks:
                        banks[kind] = SummaryBank(store, plan.summary)
                        banks[kind].describe(sequence)
                    runner.bank = banks[kind]
                    _describe_end(runner.bank, store, read, len(document))
                whole = Document(runner, read, [*document, *question.ids[:-1]], plan, self._engine.card.window)
                whole._index = indexes.setdefault(policy.name, whole._index)  # the same for every budget
                said = Said(self._engine._tokenizer, question, self._ends)
                reply = whole.answer(question.ids[-1:], max_tokens=tokens, stop_tokens=self._ends, pick=said.pick)
                row[name] = self._scored(said.text, reply, question, len(document))
            indexes.clear()
            store.drop(read)
            yield row

    def _policies(self, budgets: Sequence[int]) -> Iterator[tuple[str, Policy]]:
        yield "dense", Dense()
        for name in self._names:
            for number in budgets:
                yield f"{name} {number}", POLICIES[name](Budget(number, 16, max(16, number // 8)))

    def _scored(self, said: str, reply: Reply, question: Question, document: int) -> dict[str, float]:
        if question.place is None:
            return {
                "right": holds(said, question.golds),
                "exact": exact(said, question.golds),
                "f1": f1(said, question.golds),
            }
        first, end = question.place
        read = [page for page in reply.reads if page.end <= document][:3]
        return {
            "right": question.golds[0] in said,
            "shown": any(page.start < end and first < page.end for page in read),
        }


class Said:
    """A greedy reply as it grows. One that must hold a number ends with it, or with the first wrong digit."""

    def __init__(self, tokenizer: Any, question: Question, ends: Sequence[int]) -> None:
        self._tokenizer, self._question, self._ends = tokenizer, question, ends
        self._tokens: list[int] = []
        self._over = False

    @property
    def text(self) -> str:
        text: str = self._tokenizer.decode([token for token in self._tokens if token not in self._ends])
        return text

    def pick(self, logits: torch.Tensor) -> int:
        if self._over:
            return self._ends[0]
        self._tokens.append(greedy(logits))
        if self._question.place is not None:
            digits = re.sub(r"\D", "", self.text)
            gold = self._question.golds[0]
            self._over = digits[: len(gold)] == gold or not gold.startswith(digits)
        return self._tokens[-1]


def _describe_end(bank: SummaryBank, store: PageStore, sequence: int, before: int) -> None:
    """Describe the pages that a question filled behind its document."""
    blocks, _ = store.blocks([sequence])
    for layer in range(store.shape.layers):
        bank.filled(sequence, layer, before, store.length(sequence), blocks[0])


def share(rows: Sequence[Row], name: str, what: str) -> float:
    return sum(row[name][what] for row in rows) / len(rows)


def in_time(numbers: Iterable[int], what: str, seconds: float) -> Iterator[int]:
    """The numbers, none begun after so many seconds; the time is told when what was done with one is over."""
    began = time.monotonic()
    for number in numbers:
        if time.monotonic() - began > seconds:
            return
        yield number
        print(f"{what} {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def needles(bench: Bench, chosen: argparse.Namespace, names: Sequence[str], budgets: Sequence[int]) -> tuple[str, Any]:
    numbers = in_time(range(chosen.items), "needle", chosen.seconds)
    rows = [bench.needle(chosen.length, number, chosen.others) for number in numbers]
    parts = [f"{len(rows)} documents of {chosen.length} tokens; dense is right in {share(rows, 'dense', 'right'):.0%}."]
    for what in ("right", "shown"):
        body = [[name, *(f"{share(rows, f'{name} {number}', what):.0%}" for number in budgets)] for name in names]
        parts.append(table((what, *map(str, budgets)), body))
    return "\n\n".join(parts), rows


def prompts(bench: Bench, chosen: argparse.Namespace) -> tuple[str, Any]:
    numbers = in_time(range(chosen.items), "prompt", chosen.seconds)
    rows = [bench.prompt(chosen.length, number, chosen.others) for number in numbers]
    body = [[name, f"{sum(row[name]['right'] for row in rows)} of {len(rows)}"] for name in PROMPTS]
    return f"Documents of {chosen.length} tokens, read by\n\n{table(('policy', 'right'), body)}", rows


def questions(bench: Bench, chosen: argparse.Namespace, names: Sequence[str]) -> tuple[str, Any]:
    found = xquad(shared_data())
    of: dict[int, list[tuple[str, tuple[str, ...]]]] = {}
    for question in found.questions:
        of.setdefault(question.article, []).append((question.text, question.golds))
    of = {article: asked[:QUESTIONS] for article, asked in list(of.items())[: -(-chosen.questions // QUESTIONS)]}
    rows: list[Row] = []
    for article in in_time(of, "article", chosen.seconds):
        rows += bench.article(found.articles[article], of[article])
    dense = share(rows, "dense", "right")
    body = []
    for name in ("dense", *(f"{name} {QUESTION_BUDGET}" for name in names)):
        right = share(rows, name, "right")
        lost = "" if name == "dense" else f"{100 * (right - dense):+.1f}"
        body.append([name, f"{right:.1%}", lost, f"{share(rows, name, 'exact'):.1%}", f"{share(rows, name, 'f1'):.1%}"])
    head = (
        f"{len(rows)} questions of xquad, each on its article; target: {100 * TARGET:.0f} points below dense at most."
    )
    return f"{head}\n\n{table(('policy', 'right', 'against dense', 'exact match', 'F1'), body)}", rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_READER)
    parser.add_argument("--models", type=Path, default=ROOT / ".longleaf" / "models", help="the models folder")
    parser.add_argument("--parts", default="needles,prompts,xquad")
    parser.add_argument("--items", type=int, default=10, help="documents with a needle")
    parser.add_argument("--length", type=int, default=3000)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--questions", type=int, default=40, help="of xquad")
    parser.add_argument("--budgets", default="64,128,256,512,1024,2048")
    parser.add_argument("--policies", help=f"of {'; '.join(POLICIES)}, split by semicolons [all]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no document of a part after so long")
    chosen = parser.parse_args(arguments)
    engine = open_engine(
        chosen.model,
        ModelStore(chosen.models),
        device=chosen.device,
        dtype="float32" if chosen.device == "cpu" else "bfloat16",
    )
    assert isinstance(engine, TorchEngine)
    budgets = [int(number) for number in chosen.budgets.split(",")]
    names = chosen.policies.split(";") if chosen.policies else list(POLICIES)
    bench = Bench(engine, budgets, names)
    texts, details = [], {"machine": machine(), "model": engine.card.weights}
    for part in chosen.parts.split(","):
        if part == "needles":
            text, rows = needles(bench, chosen, names, budgets)
        elif part == "prompts":
            text, rows = prompts(bench, chosen)
        else:
            text, rows = questions(bench, chosen, names)
        texts.append(text)
        details[part] = rows
        keep("policies", "\n\n".join([*texts, machine()]), details)


if __name__ == "__main__":
    main()
