"""What a model does with the right text before it, and what the readers make of it: before and after, in one run.

    python bench/model.py --models smollm2-135m-instruct,smollm2-135m-reader
    python bench/model.py --models smollm2-135m-instruct,smollm2-135m-instruct+FOLDER --quick
    python bench/model.py --parts paragraph,hotpot,unanswerable,keys,chat --device cuda   # a bare GPU host

The first model is the baseline. NAME+FOLDER is a model with the LoRA adapter of a folder. The parts paragraph, hotpot,
keys, chat and most of unanswerable need the engine alone; search, long, babi and the rest of unanswerable go through
readers and need all of Longleaf (`--no-readers` leaves that rest out).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failures import counted, refused
from fluency import Reader, prompts, prose, replies, told
from items import Items, counter
from probes import asked, lacking, made, paragraphs, xquad
from report import OUT, ROOT, keep, machine, shared_data, table

from longleaf.engine import ModelStore, open_engine

Row = dict[str, Any]

LIGHT = {"paragraph": 612, "hotpot": 274, "unanswerable": 300, "keys": 50, "chat": 50}
HEAVY = {"search": 150, "unanswerable": 60, "long": 50, "babi": 25}
QUICK = {"paragraph": 24, "hotpot": 4, "unanswerable": 12, "keys": 3, "chat": 6, "search": 6, "long": 2, "babi": 2}
"""Questions a task. Two CPU cores take minutes for the quick ones, a GPU for all light ones."""

KEYS_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Measure:
    """The mean of `value` over the rows that `of` chooses. `goal` is the least it must be, or with `most` the most."""

    name: str
    goal: float
    of: Callable[[Row], bool]
    value: Callable[[Row], float]
    most: bool = False


def is_of(part: str, kind: str = "") -> Callable[[Row], bool]:
    return lambda row: row["part"] == part and kind in (row["kind"], "")


MEASURES = (
    Measure("gold paragraph (xquad): exact match", 0.62, is_of("paragraph"), lambda row: row["exact"]),
    Measure("gold paragraph (xquad): F1", 0.76, is_of("paragraph"), lambda row: row["f1"]),
    Measure("gold paragraph (xquad): holds the answer", 0.0, is_of("paragraph"), lambda row: row["right"]),
    Measure("HotpotQA, ten paragraphs: F1", 0.45, is_of("hotpot", "hotpot"), lambda row: row["f1"]),
    Measure("HotpotQA, the gold pair: F1", 0.0, is_of("hotpot", "hotpot, gold"), lambda row: row["f1"]),
    Measure(
        "unanswerable, other article: denied", 0.85, is_of("unanswerable", "other article"), lambda row: row["denied"]
    ),
    Measure("unanswerable, near miss: denied", 0.85, is_of("unanswerable", "near miss"), lambda row: row["denied"]),
    Measure("unanswerable: refused in any words", 0.0, is_of("unanswerable"), refused),
    Measure("gold paragraph (xquad): denied though there", 0.06, is_of("paragraph"), lambda row: row["denied"], True),
    Measure("five competing keys at 4k: holds the answer", 0.95, is_of("keys", "keys"), lambda row: row["right"]),
    Measure("five competing facts at 4k: holds the answer", 0.95, is_of("keys", "fact"), lambda row: row["right"]),
)
READ = (
    Measure("search to answer (retrieve, xquad): holds the answer", 0.62, is_of("search"), lambda row: row["right"]),
    Measure("search to answer (retrieve, xquad): quoted", 0.0, is_of("search"), lambda row: row["shown"]),
    Measure("search to answer: not found though there", 0.06, is_of("search"), lambda row: not row["found"], True),
    Measure("retrieve, article absent: not found", 0.85, is_of("absent"), lambda row: not row["found"]),
    Measure("retrieve, paragraph absent: not found", 0.85, is_of("near"), lambda row: not row["found"]),
    Measure("HotpotQA in 8k tokens (retrieve): F1", 0.40, is_of("hotpot"), lambda row: row["f1"]),
    Measure("bAbI 1 in 4k tokens (memory): holds the answer", 0.80, is_of("qa1"), lambda row: row["right"]),
    Measure("bAbI 2 in 4k tokens (memory): holds the answer", 0.80, is_of("qa2"), lambda row: row["right"]),
)
"""Of rows of trials, whose part is their task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(dict.fromkeys((*LIGHT, *HEAVY)))
    parser.add_argument(
        "--models", default="smollm2-135m-instruct,smollm2-135m-reader", help="the first is the baseline"
    )
    parser.add_argument("--parts", default=",".join(known), help=f"of {','.join(known)} [all]")
    parser.add_argument("--held", action="store_true", help="hold answers to spans of the text, as readers do")
    parser.add_argument("--no-readers", action="store_true", help="leave out what goes through readers")
    parser.add_argument("--items", type=int, help="questions a task")
    parser.add_argument("--quick", action="store_true", help="a few questions a task")
    parser.add_argument("--store", type=Path, default=ROOT / ".longleaf" / "models", help="the models folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--embedder", help="a sentence model, or hashed-words [the default one]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="model", help="of the files in bench/out [model]")
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    if strange := set(parts) - set(known):
        parser.error(f"no such part: {', '.join(sorted(strange))}; there are {', '.join(known)}")
    store, data = ModelStore(chosen.store), shared_data()
    models = chosen.models.split(",")
    bench = Bench(chosen, store, data, parts, Items(data, counter(store.get(base_of(models[0]))), chosen.seed))
    for model in models:
        bench.run(model, models[0])
    keep(chosen.name, bench.report(models), bench.details(models))


class Bench:
    """The parts that were asked for, run on one model after the other."""

    def __init__(
        self, chosen: argparse.Namespace, store: ModelStore, data: Path, parts: Sequence[str], items: Items
    ) -> None:
        self._chosen, self._store, self._data, self._items = chosen, store, data, items
        self._questions = xquad(data, chosen.seed)
        self._light = self._counts(LIGHT, parts)
        self._heavy = {} if chosen.no_readers else self._counts(HEAVY, parts)
        self._pipeline: Any = None
        self._cards: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._read: list[Row] = []
        self._chat: dict[str, dict[str, Any]] = {}

    def _counts(self, full: dict[str, int], parts: Sequence[str]) -> dict[str, int]:
        counts = {part: QUICK[part] if self._chosen.quick else count for part, count in full.items() if part in parts}
        return {part: min(count, self._chosen.items or count) for part, count in counts.items()}

    def run(self, model: str, baseline: str) -> None:
        """All parts on one model; the baseline comes first, for its replies are what fluency is measured on."""
        chosen, store = self._chosen, self._store
        base, adapter = base_of(model), adapter_of(model)
        engine = open_engine(base, store, adapter=adapter, device=chosen.device, dtype=chosen.dtype, on_progress=print)
        self._cards[model] = engine.card
        try:
            print(f"{model}: asking", flush=True)
            self._rows += [row | {"model": model} for row in asked(engine, self._probes(), chosen.held)]
            if count := self._light.get("chat"):
                self._chat[model] = {"replies": replies(engine, prompts(count))}
            if self._heavy:
                file = OUT / f"{chosen.name}-{engine.card.name.replace('/', '--')}-{engine.card.weights[-16:]}.jsonl"
                found = self._through_readers().rows(engine, self._heavy, file)
                self._read += [row | {"model": model, "part": row["task"], "kind": row["reader"]} for row in found]
        finally:
            engine.close()
        if "chat" in self._light:
            self._chat[model] |= self._perplexities(model, self._chat[baseline]["replies"])

    def _probes(self) -> list[Any]:
        light, items, questions = self._light, self._items, self._questions
        probes = paragraphs(questions, light.get("paragraph", 0)) + lacking(questions, light.get("unanswerable", 0))
        for length in (0, -1):
            probes += made(items, "hotpot", ["hotpot"], length, light.get("hotpot", 0))
        return probes + made(items, "keys", ["keys", "fact"], KEYS_LENGTH, light.get("keys", 0))

    def _through_readers(self) -> Any:
        if self._pipeline is None:
            # Database, index and graph, which a bare GPU host does not have.
            from command import open_embedder
            from pipeline import pipeline

            name = self._chosen.embedder or self._store.default("embedder")
            embedder = open_embedder(name, self._store, self._chosen.device)
            self._pipeline = pipeline(self._questions, self._items, embedder)
        return self._pipeline

    def _perplexities(self, model: str, said: Sequence[str]) -> dict[str, float]:
        import torch

        device = self._chosen.device
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        adapter = adapter_of(model) or self._store.adapter(model)
        reader = Reader(self._store.get(base_of(model)), adapter, self._cards[model].dtype, device)
        few = self._chosen.quick
        return {
            "prose": reader.perplexity(prose(self._data, reader.tokenizer, 2 if few else 8, 256 if few else 1024)),
            "base_replies": reader.perplexity(told(reader.tokenizer, prompts(len(said)), said)),
        }

    def report(self, models: Sequence[str]) -> str:
        """The tables in Markdown."""
        body = [
            line
            for measures, rows in ((MEASURES, self._rows), (READ, self._read))
            for line in _lines(measures, rows, models)
        ]
        for key, name in (("prose", "a novel"), ("base_replies", f"replies of {models[0]} to general prompts")):
            if self._chat:
                values = [self._chat[model][key] for model in models]
                shown = [f"{value:.2f} ({value / values[0] - 1:+.1%})" for value in values]
                body.append([f"perplexity on {name}", *shown, "within 10% of the first"])
        parts = [
            table(("measure (items)", *models, "target"), body),
            "## Failures by kind",
            counted(self._rows, models),
        ]
        if self._read:
            parts += ["## Failures through the readers", _misread(self._read, models)]
        return "\n\n".join([*parts, self._machine()])

    def _machine(self) -> str:
        kinds = {card.dtype for card in self._cards.values()}
        return f"{machine()}, {', '.join(sorted(kinds))}"

    def details(self, models: Sequence[str]) -> dict[str, Any]:
        """All rows, and the replies to general prompts, for reading."""
        count = self._light.get("chat", 0)
        chat = [
            {"prompt": text, **{model: self._chat[model]["replies"][place] for model in models}}
            for place, text in enumerate(prompts(count))
        ]
        cards = {
            model: {"name": card.name, "weights": card.weights, "dtype": card.dtype}
            for model, card in self._cards.items()
        }
        perplexity = {
            model: {key: value for key, value in found.items() if key != "replies"}
            for model, found in self._chat.items()
        }
        return {
            "machine": self._machine(),
            "models": cards,
            "perplexity": perplexity,
            "chat": chat,
            "rows": self._rows,
            "read": self._read,
        }


def _lines(measures: Sequence[Measure], rows: Sequence[Row], models: Sequence[str]) -> list[list[str]]:
    lines = []
    for measure in measures:
        own = {model: [row for row in rows if row["model"] == model and measure.of(row)] for model in models}
        if not all(own.values()):
            continue
        shares = [sum(map(float, map(measure.value, found))) / len(found) for found in own.values()]
        goal = f"{'<=' if measure.most else '>='} {measure.goal:.0%}" if measure.goal else ""
        lines.append([f"{measure.name} ({len(own[models[0]])})", *(f"{share:.1%}" for share in shares), goal])
    return lines


def _misread(rows: Sequence[Row], models: Sequence[str]) -> str:
    """Where the answer was lost: before the quotes, or in the wording; and answers where none is."""
    tasks = list(dict.fromkeys((row["task"], row["reader"]) for row in rows))
    body = []
    for task, reader in tasks:
        own = [row for row in rows if (row["task"], row["reader"]) == (task, reader)]
        if task in ("absent", "near"):
            kinds = {"answers where nothing does": lambda row: row["found"]}
        else:
            kinds = {
                "the answer is in no quote": lambda row: not row["right"] and row["found"] and not row["shown"],
                "quoted, and worded wrongly": lambda row: not row["right"] and row["found"] and row["shown"],
                "not found though there": lambda row: not row["found"],
            }
        for kind, met in kinds.items():
            counts = [[row for row in own if row["model"] == model] for model in models]
            body.append([f"{task}, {reader}", kind, *(f"{sum(map(met, found))} of {len(found)}" for found in counts)])
    return table(("part", "what is wrong", *models), body)


def base_of(model: str) -> str:
    """NAME of NAME+FOLDER."""
    return model.partition("+")[0]


def adapter_of(model: str) -> Path | None:
    """FOLDER of NAME+FOLDER."""
    folder = model.partition("+")[2]
    return Path(folder) if folder else None


if __name__ == "__main__":
    main()
