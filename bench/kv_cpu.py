"""What a document that is kept read is worth on a CPU: later questions, a restart, and a book beyond the window.

    python bench/kv_cpu.py                    # all of it; the book of 100,000 tokens takes most of an hour on two cores
    python bench/kv_cpu.py --quick            # smaller sizes, two minutes or so
    python bench/kv_cpu.py --parts questions,restart
    python bench/kv_cpu.py --parts book --lengths 6000,16000,100000
    python bench/kv_cpu.py --parts book --kept FOLDER      # keeps what is read there, and asks again what is there

questions: a document that nearly fills the window is read once. The time to the first token of questions after the
first, beside the time to it where the same prompt is prefilled, in the same process. restart: files of that document,
and of 100,000 tokens of random numbers (whose sizes are those of a real text), are opened by a fresh process. book: a
novel with one number to be found at each of several depths, all asked of one reading; by InfLLM blocks, beside a window
alone (A-shape) and dense attention where it fits. Every reading is a process of its own, so its peak memory is too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from items import book, plant
from report import OUT, ROOT, keep, machine, shared_data, table

from longleaf.agents.prompt import load
from longleaf.engine.attention.document import Document
from longleaf.engine.attention.plans import ReadingPlan, plan_named
from longleaf.engine.attention.policies.infllm import InfLLM
from longleaf.engine.attention.runner import Runner
from longleaf.engine.attention.selection import Budget
from longleaf.engine.attention.watched import Watched
from longleaf.engine.backends.documents import TorchDocument
from longleaf.engine.backends.open import open_engine
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.catalog import DEFAULT_READER
from longleaf.engine.contract import Done, Head, Keeping, Message, OpenDocument, Request, Sampling, Token
from longleaf.engine.store import ModelStore

PARTS = ("questions", "restart", "book")
KEYS = ("harvest", "lantern", "copper", "orchard", "violet")
NOVEL = "herman-melville_moby-dick"
TARGET_SHARE, TARGET_OPEN, TARGET_PEAK = 0.1, 1.0, 3.0


@dataclass(frozen=True, slots=True)
class Newest:
    """A summary that knows nothing but the order of pages: with it, InfLLM is a window and sinks alone (A-shape)."""

    name: str = "newest"

    def width(self, page: int, head_size: int) -> int:
        return 1

    def update(self, buffer: torch.Tensor, keys: torch.Tensor, physical: torch.Tensor, filled: torch.Tensor) -> None:
        pass

    def score(
        self, query: torch.Tensor, buffer: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows, logical = table.shape
        order = torch.arange(logical, dtype=torch.float32, device=query.device)
        return order.expand(rows, buffer.shape[1], logical).clone()


def plan_of(name: str, window: int, heads: Sequence[Head]) -> ReadingPlan:
    """A plan of the engine, or `a_shape`: what InfLLM reads without the blocks that it fetches."""
    beyond = plan_named("infllm", window, heads=heads)
    if name != "a_shape":
        return beyond if name == "infllm" else plan_named(name, window)
    local = window // 4
    policy = InfLLM(Budget(128 + local, sinks=128, recent=local), summary=Newest())
    return ReadingPlan("a_shape", policy, policy, beyond.positions)


def novel(engine: TorchEngine, tokens: int) -> str:
    """About so many tokens of the novel, whole paragraphs."""
    text = book(shared_data(), NOVEL)
    if text is None:
        raise SystemExit(f"{NOVEL} is not in {shared_data()}")
    paragraphs = text[5000:].split("\n\n")
    kept, used = [], 0
    for paragraph in paragraphs:
        used += engine.count(paragraph) + 1
        if used > tokens:
            return "\n\n".join(kept)
        kept.append(paragraph)
    raise SystemExit(f"{NOVEL} holds {used} tokens; {tokens} were asked for")


def request(text: str, question: str, tokens: int = 16) -> Request:
    prompt = load("kv")
    return Request("q", prompt.messages(document=text, question=question), Sampling(max_tokens=tokens))


def opening(text: str) -> tuple[Message, ...]:
    return load("kv").opening("question", document=text)


def first_token(asked: OpenDocument | TorchEngine, what: Request) -> tuple[float, int]:
    """Seconds to the first piece of a reply, and how many tokens of its prompt were known."""
    began, first, known = time.perf_counter(), 0.0, 0
    for event in asked.generate([what]):
        if isinstance(event, (Token, Done)) and not first:
            first = time.perf_counter() - began
        if isinstance(event, Done):
            known = event.usage.cached_tokens
    return first, known


def questions(engine: TorchEngine, length: int, folder: str) -> dict[str, Any]:
    """A document that fits the window: prefilled, opened, asked."""
    text = novel(engine, length)
    asked = [request(text, f"Who is named in the text, beside {key}?", 4) for key in KEYS]
    first_token(engine, request("A short text to warm the kernels up. " * 30, "What?", 2))
    prefill, known = first_token(engine, asked[0])
    assert known == 0, "the baseline was served from a cache"
    began = time.perf_counter()
    document = engine.open_document(opening(text), keeping=Keeping(Path(folder)))
    opened = time.perf_counter() - began
    later = [first_token(document, what)[0] for what in asked]
    size = document.kept.bytes if document.kept else 0
    return {
        "tokens": document.tokens,
        "prefill": prefill,
        "open": opened,
        "first": later[0],
        "later": statistics.median(later[1:]),
        "bytes": size,
    }


def again(engine: TorchEngine, length: int, folder: str, words: str) -> dict[str, Any]:
    """What a fresh process waits for: opening, and the first token of the first question."""
    text = words or novel(engine, length)
    began = time.perf_counter()
    document = engine.open_document(opening(text), keeping=Keeping(Path(folder)))
    opened = time.perf_counter() - began
    assert document.found == document.tokens, f"{document.found} of {document.tokens} tokens were found"
    first, _ = first_token(document, request(text, "Who is named?", 4))
    return {"tokens": document.tokens, "open": opened, "first": first}


def invent(engine: TorchEngine, length: int, folder: str) -> dict[str, Any]:
    """Keep random numbers as the keys and values of a text, as if it had been read."""
    text = novel(engine, length)
    document = _document(engine, text, "infllm", Keeping(Path(folder)))
    store = document._store()
    runner = Runner(engine._model, store, summary=document._plan.summary, positions=document._plan.positions)
    sequence, shape, held = store.new(), store.shape, 0
    with torch.inference_mode():
        while held < document.tokens:
            count = min(512, document.tokens - held)
            for layer in range(shape.layers):
                numbers = torch.randn(2, shape.kv_heads, count, shape.head_size, dtype=shape.dtype)
                store.append(sequence, layer, numbers[0], numbers[1])
            held += count
        assert runner.bank is not None
        runner.bank.describe(sequence)
        kept = document._kept(store)
        assert kept is not None
        made = Document(runner, sequence, document._ids, document._plan, engine.card.window).keep(kept)
    return {"tokens": document.tokens, "bytes": made.bytes, "words": len(text)}


def read_book(engine: TorchEngine, length: int, plan: str, kept: str) -> dict[str, Any]:
    """Read the novel with a number at each depth, and ask for each. With a folder `kept` it is read once for all."""
    draw = random.Random(f"kv_cpu {length}")
    values = [str(draw.randrange(100_000, 999_999)) for _ in KEYS]
    depths = [0.02 + 0.96 * number / (len(KEYS) - 1) for number in range(len(KEYS))]
    lines = [
        f"One of the special magic numbers for {key} is: {value}." for key, value in zip(KEYS, values, strict=True)
    ]
    text, spans = plant(novel(engine, length), lines, depths)
    document = _document(engine, text, plan, Keeping(Path(kept)) if kept else None)
    began, worked = time.perf_counter(), time.process_time()
    document.read()
    took = {"seconds": time.perf_counter() - began, "work": time.process_time() - worked, "peak": peak()}
    note = Path(kept) / f"{plan}-{length}.json"
    if document.found == document.tokens:
        took = json.loads(note.read_text(encoding="utf-8"))
    elif kept:
        note.write_text(json.dumps(took), encoding="utf-8")
    first = load("kv").place("document")
    right, shown, replies, waits = [], [], [], []
    for key, value, span in zip(KEYS, values, spans, strict=True):
        what = request(text, f"What is the special magic number for {key} mentioned in the text?", 24)
        began, events = time.perf_counter(), []
        for event in document.generate([what]):
            if not events:
                waits.append(time.perf_counter() - began)
            events.append(event)
        (done,) = [event for event in events if isinstance(event, Done)]
        right.append(value in done.text)
        replies.append([value, done.text])
        shown.append(any(read.start - first < span[1] and span[0] < read.end - first for read in done.reads[:3]))
    return {
        "tokens": document.tokens,
        "plan": plan,
        "depths": depths,
        "right": right,
        "shown": shown,
        "replies": replies,
        "first": statistics.median(waits),
        **took,
        "peak": max(took["peak"], peak()),
    }


def peak() -> float:
    """GiB of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def _document(engine: TorchEngine, text: str, plan: str, keeping: Keeping | None) -> TorchDocument:
    """A document with a plan of this bench, which the engine would not choose by itself."""
    assert engine._documents is not None
    parts, messages = engine._documents._parts, opening(text)
    ids = parts.form.beginning(messages)
    chosen = plan_of(plan, engine.card.window, parts.heads or ())
    if plan == "dense":
        chosen = replace(chosen, answering=Watched(parts.heads))
    stored = "exact" if plan == "dense" else "int8"
    return TorchDocument(parts, messages, ids, chosen, stored, keeping)


WORK = {"questions": questions, "again": again, "invent": invent, "book": read_book}


def work(task: str, arguments: Sequence[Any], models: Path) -> None:
    """One measurement, in this process; prints its result as the last line."""
    engine = open_engine(DEFAULT_READER, ModelStore(models), device="cpu", dtype="float32")
    assert isinstance(engine, TorchEngine)
    print(json.dumps(WORK[task](engine, *arguments)))


def fresh(task: str, *arguments: Any, models: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--models", str(models), "--work", json.dumps([task, arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{task} {arguments[:1]}: {found}", file=sys.stderr, flush=True)
    return found


def heatmap(rows: Sequence[dict[str, Any]], file: Path) -> bool:
    """Right or wrong by depth and length, a panel a plan; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plans = list(dict.fromkeys(row["plan"] for row in rows))
    figure, panels = plt.subplots(1, len(plans), figsize=(1.5 + 2.6 * len(plans), 3.4), squeeze=False, sharey=True)
    for panel, plan in zip(panels[0], plans, strict=True):
        mine = [row for row in rows if row["plan"] == plan]
        shares = [[float(row["right"][depth]) for row in mine] for depth in range(len(KEYS))]
        panel.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
        panel.set_xticks(range(len(mine)), [f"{row['tokens'] / 1000:.0f}k" for row in mine])
        panel.set_title(plan)
        panel.set_xlabel("tokens")
    panels[0][0].set_yticks(range(len(KEYS)), [f"{depth:.0%}" for depth in rows[0]["depths"]])
    panels[0][0].set_ylabel("depth of the number")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)} [all]")
    parser.add_argument("--lengths", help="tokens of the book [6000,16000,32000,100000]")
    parser.add_argument("--plans", default="dense,a_shape,infllm", help="of the book; dense up to 7000 tokens")
    parser.add_argument("--kept", default="", help="a folder to keep what is read of the book")
    parser.add_argument("--models", type=Path, default=ROOT / ".longleaf" / "models", help="the models folder")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.work:
        task, given = json.loads(chosen.work)
        work(task, given, chosen.models)
        return
    parts = chosen.parts.split(",")
    inside, random_tokens = (1500, 20_000) if chosen.quick else (7400, 100_000)
    lengths = [
        int(number)
        for number in (chosen.lengths or ("1500,9000" if chosen.quick else "6000,16000,32000,100000")).split(",")
    ]
    rows: list[list[str]] = []
    found: dict[str, Any] = {"machine": machine(), "threads": os.environ.get("OMP_NUM_THREADS", "all")}

    def run(task: str, *given: Any) -> dict[str, Any]:
        return fresh(task, *given, models=chosen.models)

    with TemporaryDirectory(prefix="longleaf-kv-") as folder:
        if "questions" in parts or "restart" in parts:
            one = found["questions"] = run("questions", inside, folder)
            rows += [
                [f"first token, {one['tokens']:,} tokens prefilled", f"{one['prefill']:.2f} s", "", ""],
                [
                    "first token, second and later questions",
                    f"{one['later']:.2f} s",
                    f"{one['later'] / one['prefill']:.1%} of prefilling",
                    f"< {TARGET_SHARE:.0%}",
                ],
            ]
        if "restart" in parts:
            back = found["again"] = run("again", inside, folder, "")
            rows.append(
                [
                    f"after a restart, {back['tokens']:,} tokens ({one['bytes'] / 1e6:,.0f} MB, exact)",
                    f"open {back['open']:.2f} s, first token {back['first']:.2f} s more",
                    f"{(back['open'] + back['first']) / one['prefill']:.1%} of prefilling",
                    "",
                ]
            )
            made = found["invented"] = run("invent", random_tokens, folder)
            back = found["again_long"] = run("again", random_tokens, folder, "")
            rows.append(
                [
                    f"after a restart, {back['tokens']:,} tokens ({made['bytes'] / 1e6:,.0f} MB, int8)",
                    f"open {back['open']:.2f} s, first token {back['first']:.2f} s more",
                    "",
                    f"open < {TARGET_OPEN:.0f} s",
                ]
            )
    shown: list[dict[str, Any]] = []
    if "book" in parts:
        for length in lengths:
            plans = [plan for plan in chosen.plans.split(",") if plan != "dense" or length <= 7000]
            shown += [run("book", length, plan, chosen.kept) for plan in plans]
        found["book"] = shown
        for row in shown:
            marks = "".join("x" if right else "." for right in row["right"])
            rows.append(
                [
                    f"book of {row['tokens']:,} tokens, {row['plan']}",
                    f"{sum(row['right'])} of {len(KEYS)} numbers ({marks}), page shown {sum(row['shown'])}",
                    f"read in {row['seconds']:.0f} s ({row['work']:.0f} s of processor time), first token of a reply "
                    f"{row['first']:.1f} s, peak {row['peak']:.2f} GiB",
                    f"< {TARGET_PEAK:.0f} GiB" if row["plan"] == "infllm" else "",
                ]
            )
        if not heatmap(shown, OUT / "kv_cpu.png"):
            print("no heatmap: pip install matplotlib", file=sys.stderr)
    text = table(("measure", "result", "beside", "target"), rows)
    keep("kv_cpu", f"{text}\n\n{machine()}, {found['threads']} threads", found)


if __name__ == "__main__":
    main()
