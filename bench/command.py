"""What the reading benches' commands share: their arguments, the model, and what is written at the end."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from items import Item, Items, counter
from libraries import CachedEmbedder, Libraries
from report import OUT, ROOT, keep, machine, shared_data
from schedule import leave, load, planned, run
from tables import costs, draw, grid, length_of, losses, unfinished
from trials import BM25, PASSAGES, Bench, Row

from longleaf.agents.reader import Budget, Options
from longleaf.agents.registry import readers
from longleaf.engine.backends.open import open_engine
from longleaf.engine.gather import Gather
from longleaf.engine.store import ModelStore
from longleaf.retrieval.embedding import Embedder, HashedWords, SentenceEmbedder


def arguments(about: str, tasks: Sequence[str], lengths: str, items: int) -> argparse.ArgumentParser:
    """The arguments of a bench with these defaults."""
    known = [*readers(), BM25]
    able = [*known, PASSAGES]
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", default=",".join(known), help=f"of {','.join(able)} [all but the last]")
    parser.add_argument("--tasks", default=",".join(tasks), help=f"[{','.join(tasks)}]")
    parser.add_argument("--lengths", default=lengths, help=f"in tokens; gold for the evidence alone [{lengths}]")
    parser.add_argument("--items", type=int, default=items, help=f"questions a task [{items}]")
    parser.add_argument("--seconds", type=float, help="end after so long with what there is [no limit]")
    parser.add_argument("--parallel", type=int, default=1, help="questions read side by side [1]")
    parser.add_argument("--out", type=Path, help="the file of rows, which a later run adds to [bench/out/NAME.jsonl]")
    parser.add_argument("--merge", type=Path, nargs="+", help="write the tables of these files of rows; read nothing")
    parser.add_argument("--models", type=Path, default=ROOT / ".longleaf" / "models", help="the models folder")
    parser.add_argument("--model", help="the reading model [the default one]")
    parser.add_argument("--embedder", help="a sentence model, or hashed-words [the default one]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--libraries", type=Path, help="a folder that keeps filled libraries for other runs")
    parser.add_argument("--prepare", help="fill part I of N of those libraries, as I/N, and read nothing")
    parser.add_argument("--budget", action="append", default=[], metavar="KEY=N", help="such as part_tokens=4096")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="such as gate=true")
    parser.add_argument("--suffix", default="", help="words put behind every question, such as ' Answer in one word.'")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(name: str, parser: argparse.ArgumentParser, summary: Callable[[Sequence[Row]], str]) -> None:
    """Run the bench that the command line asks for and write NAME.json, .md and .png; `summary` leads the text."""
    chosen = parser.parse_args()
    if chosen.merge:
        publish(name, load(chosen.merge), summary)
        return
    try:
        rows = _run(name, chosen)
        if not chosen.prepare:
            publish(name, rows, summary)
    except BaseException:  # noqa: BLE001 - printed here, because threads that read on would hold the process
        traceback.print_exc()
        leave(1)
    leave(0)


def publish(name: str, rows: Sequence[Row], summary: Callable[[Sequence[Row]], str]) -> None:
    """Write the tables and curves of some rows."""
    machines = list(dict.fromkeys(row.get("machine", machine()) for row in rows))
    parts = [
        summary(rows),
        "Right: the wording holds the answer. Share of items, and how many items.\n\n" + grid(rows),
        "Quoted: a quote that is shown holds the answer.\n\n" + grid(rows, "shown"),
        "Whose loss.\n\n" + losses(rows),
        costs(rows),
        unfinished(rows),
        "\n".join(machines),
    ]
    measures = (("right", "answer right"), ("shown", "answer quoted"), ("reading_seconds", "seconds"))
    if not draw(rows, OUT / f"{name}.png", measures):
        print("no curves: matplotlib is not installed (pip install 'longleaf[bench]')")
    keep(name, "\n\n".join(part for part in parts if part), {"machines": machines, "rows": list(rows)})


def _run(name: str, chosen: argparse.Namespace) -> list[Row]:
    tasks, names = chosen.tasks.split(","), chosen.readers.split(",")
    lengths = [length_of(length) for length in chosen.lengths.split(",")]
    models = ModelStore(chosen.models)
    embedder = CachedEmbedder(open_embedder(chosen.embedder or models.default("embedder"), models, chosen.device))
    model = chosen.model or models.default("reader")
    items = Items(shared_data(), counter(models.get(models.default("reader"))), chosen.seed)
    count = min([chosen.items, *(size for task in tasks if (size := items.size(task)) is not None)])
    trials = planned(tasks, lengths, count, names, longest_first=chosen.parallel > 1)
    if chosen.prepare:
        part, of = map(int, chosen.prepare.split("/"))
        libraries = Libraries(open_engine("scripted:-", models), embedder, chosen.libraries)
        wanted = list(dict.fromkeys((trial.task, trial.length, trial.number) for trial in trials))
        for place in wanted[part - 1 :: of]:
            libraries.prepare(items.make(*place))
        print(f"filled {len(wanted[part - 1 :: of])} libraries", flush=True)
        return []
    engine = Gather(open_engine(model, models, device=chosen.device))
    budget = replace(Budget(), **{key: int(value) for key, value in _pairs(chosen.budget)})

    def make(task: str, length: int, number: int) -> Item:
        item = items.make(task, length, number)
        return replace(item, question=item.question + chosen.suffix)

    bench = Bench(make, Libraries(engine, embedder, chosen.libraries), budget, _options(chosen.option))
    out = chosen.out or OUT / f"{name}.jsonl"
    return run(trials, bench, out, parallel=chosen.parallel, seconds=chosen.seconds)


def open_embedder(name: str, models: ModelStore, device: str) -> Embedder:
    """The sentence model of a name, or hashed words."""
    if name == "hashed-words":
        return HashedWords()
    return SentenceEmbedder(models.get(name), name=name, device=device, batch_tokens=4096 if device == "cpu" else 32768)


def _pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in given]
    return [(key, value) for key, _, value in pairs]


def _options(given: Sequence[str]) -> Options:
    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(Options)}
    values: dict[str, Any] = {
        key: value == "true" if kinds[key] is bool else kinds[key](value) for key, value in _pairs(given)
    }
    return replace(Options(), **values)


def quick() -> bool:
    """Whether this machine has no GPU, so that a default run must be small."""
    import torch

    return os.environ.get("LONGLEAF_BENCH") != "full" and not torch.cuda.is_available()
