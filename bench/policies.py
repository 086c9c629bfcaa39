"""What each decode policy still finds when it reads little: needles in a document that fits the window.

    python bench/policies.py                          # 6 documents of 3,000 tokens, budgets 64 to 2048
    python bench/policies.py --items 40 --length 7000 --device cuda
    python bench/policies.py --policies quest,page_mass --budgets 256,512

A document is made-up filler with one number to be found, and `--others` of the same kind beside it, which the default
model confuses even when it reads everything. It is read once, exactly, and every policy answers from the same keys and
values, so only what a reply reads differs. Right: the reply holds the number. Shown: the page that holds it is among
the three that the reply names as read most. A budget counts everything a step reads: with pages of 16 tokens, 16 sinks
and an eighth of the budget at the end. The first two layers read everything in every policy but tokenselect and
a_shape, as in Quest.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import ROOT, keep, machine, table

from longleaf.engine.attention.contract import Policy
from longleaf.engine.attention.document import Document
from longleaf.engine.attention.plans import ReadingPlan
from longleaf.engine.attention.policies.a_shape import AShape
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.policies.landmark import landmark
from longleaf.engine.attention.policies.page_mass import page_mass
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.policies.reused import Reused
from longleaf.engine.attention.policies.squeezed import Squeezed
from longleaf.engine.attention.policies.tokenselect import TokenSelect
from longleaf.engine.attention.policies.two_level import two_level
from longleaf.engine.attention.runner import Runner, shape_of
from longleaf.engine.attention.selection import Budget
from longleaf.engine.attention.summary.gaussian import Gaussian
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.engine.needle_facts import filler
from longleaf.engine.pages.store import PageStore

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
KEYS = ("harvest", "lantern", "copper", "orchard", "violet", "granite", "meadow", "pepper", "walnut", "saddle")
WINDOW, PAGE = 8192, 16


@dataclass(frozen=True, slots=True)
class Item:
    """A document and its question as token ids, what the reply must hold, and the token where that stands."""

    document: list[int]
    question: list[int]
    answer: str
    place: int


def item(tokenizer: Any, length: int, number: int, others: int) -> Item:
    """The `number`-th document of about `length` tokens: a fact that is asked for, and `others` like it, in filler."""
    draw = random.Random(f"policies {length} {number}")
    facts = [(key, str(draw.randrange(100_000, 999_999))) for key in draw.sample(KEYS, 1 + others)]
    lines = [draw.choice(filler()) for _ in range(length // 14)]
    for key, value in facts:
        lines.insert(draw.randrange(5, len(lines) - 5), f"One of the special magic numbers for {key} is: {value}.")
    key, value = facts[0]
    before = lines[: next(n for n, line in enumerate(lines) if value in line)]
    start = "<|im_start|>user\n"
    asked = (
        f"\nWhat is the special magic number for {key} mentioned in the text?<|im_end|>\n<|im_start|>assistant\n"
        f"The special magic number for {key} mentioned in the text is"
    )

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    return Item(ids(start + " ".join(lines)), ids(asked), value, len(ids(start + " ".join(before))) + 9)


def trial(model: Any, tokenizer: Any, store: PageStore, asked: Item, chosen: dict[str, Policy]) -> dict[str, Any]:
    """Whether each policy was right on one document, and whether it showed the place; the document is read once."""
    sequence = store.new()
    Runner(model, store).prefill(sequence, asked.document)
    found = {}
    for name, policy in chosen.items():
        plan = ReadingPlan(name, answering=policy)
        runner = Runner(model, store, summary=plan.summary)
        if runner.bank is not None:
            runner.bank.describe(sequence)
        own = store.fork(sequence, len(asked.document))
        reply = Document(runner, own, asked.document, plan, WINDOW).answer(asked.question, max_tokens=8)
        store.drop(own)
        shown = any(read.start <= asked.place + 8 and asked.place <= read.end for read in reply.reads[:3])
        found[name] = {"right": asked.answer in tokenizer.decode(reply.tokens), "shown": shown}
    store.drop(sequence)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / ".longleaf" / "models" / "smollm2-135m-instruct")
    parser.add_argument("--items", type=int, default=6)
    parser.add_argument("--length", type=int, default=3000)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--budgets", default="64,128,256,512,1024,2048")
    parser.add_argument("--policies", help=f"of {'; '.join(POLICIES)}, split by semicolons [all]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no document after so long")
    chosen = parser.parse_args(arguments)
    folder = next(chosen.model.rglob("config.json")).parent
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, torch.bfloat16 if chosen.device != "cpu" else torch.float32, chosen.device)
    budgets = [int(number) for number in chosen.budgets.split(",")]
    names = chosen.policies.split(";") if chosen.policies else list(POLICIES)
    policies: dict[str, Policy] = {"dense": Dense()}
    for name in names:
        for number in budgets:
            policies[f"{name} {number}"] = POLICIES[name](Budget(number, 16, max(16, number // 8)))
    began, rows = time.monotonic(), []
    for number in range(chosen.items):
        if time.monotonic() - began > chosen.seconds:
            break
        store = PageStore(shape_of(model, PAGE), device=chosen.device)
        rows.append(trial(model, tokenizer, store, item(tokenizer, chosen.length, number, chosen.others), policies))

    def share(name: str, what: str) -> str:
        return f"{sum(row[name][what] for row in rows) / len(rows):.0%}"

    parts = [f"{len(rows)} documents of {chosen.length} tokens; dense is right in {share('dense', 'right')}."]
    for what in ("right", "shown"):
        body = [[name, *(share(f"{name} {number}", what) for number in budgets)] for name in names]
        parts.append(table((what, *map(str, budgets)), body))
    keep("policies", "\n\n".join([*parts, machine()]), {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
