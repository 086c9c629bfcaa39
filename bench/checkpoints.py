"""What the graph and SQL cost around the model's calls: bytes of checkpoints, growth of the database, time a step.

    python bench/checkpoints.py                      # every reader that reads whole documents, 500 parts
    python bench/checkpoints.py --readers memory --parts 100

The model is scripted, so that all but its calls is ours. Checkpoints are counted just before a finished run deletes
them: every row written is then still there. The database's growth counts its pages before and after, WAL folded in.
`empty` is no reader: a graph of nodes that do nothing but call the model and write a step's row, so graph and SQL
alone. What a reader takes beyond it is its own work on the text.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from items import Item, Items
from libraries import Place, add
from report import shared_data, write

from longleaf import Library
from longleaf.agents.errors import CapabilityMissing
from longleaf.agents.reader import Answer, Ask, Budget
from longleaf.agents.registry import readers
from longleaf.agents.run import start
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Event, Message, ModelCard, Request, Scores, complete
from longleaf.memory.records import RunRecord, StepRecord
from longleaf.retrieval.embedding import HashedWords

MEGABYTES, MILLISECONDS = 20, 20


class Timed:
    """An engine that adds up the seconds in which at least one thread was in it, and its processor's seconds."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self.seconds = self.processor = 0.0
        self.calls = 0
        self._inside = 0
        self._since = 0.0
        self._lock = threading.Lock()

    @property
    def card(self) -> ModelCard:
        return self._engine.card

    def count(self, text: str) -> int:
        return self._engine.count(text)

    def close(self) -> None:
        self._engine.close()

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        events = self._engine.generate(requests)
        with self._lock:
            self.calls += len(requests)
        while True:
            with self._inside_it():
                event = next(events, None)
            if event is None:
                return
            yield event

    def score_context(self, question: str, context: Sequence[str], *, stop: Callable[[], bool] | None = None) -> Scores:
        self.calls += 1
        with self._inside_it():
            return self._engine.score_context(question, context, stop=stop)

    @contextmanager
    def _inside_it(self) -> Iterator[None]:
        processor = time.thread_time()
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._since = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self.processor += time.thread_time() - processor
                if self._inside == 0:
                    self.seconds += time.perf_counter() - self._since


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost: seconds with the model, in all, and of the processor without the model."""

    calls: int
    checkpoints: int
    checkpoint_bytes: int
    database_bytes: int
    engine: float
    wall: float
    processor: float

    @property
    def milliseconds(self) -> float:
        """A model call, without the model."""
        return 1000 * (self.wall - self.engine) / max(1, self.calls)

    @property
    def model_milliseconds(self) -> float:
        return 1000 * self.engine / max(1, self.calls)

    @property
    def processor_milliseconds(self) -> float:
        """As `milliseconds`, of the processor's time: what other processes took of it is not in it."""
        return 1000 * self.processor / max(1, self.calls)


def reply(request: Request) -> str:
    """What a small model might say: a sentence of what it was given last."""
    prompt = request.messages[-1].content
    sentences = [part.strip() for part in prompt.replace("\n", " ").split(". ") if 40 < len(part) < 200]
    return (sentences[len(sentences) // 2] if sentences else prompt[:80]) + "."


def measured(run: Callable[[Place], None], library: Library, document_id: str) -> Cost:
    """What a run over the library's document costs."""
    engine = Timed(ScriptedEngine(reply, attention=True))
    place = Place(library, document_id, engine)
    saver = place.checkpointer
    file = library.folder.database_file
    seen: list[tuple[int, int]] = []
    delete = saver.delete_thread

    def counted(thread: str) -> None:
        seen.append(_written(file))
        delete(thread)

    saver.delete_thread = counted
    before, began, processor = _size(file), time.perf_counter(), time.process_time()
    try:
        run(place)
    finally:
        del saver.delete_thread
    wall, processor = time.perf_counter() - began, time.process_time() - processor
    rows, size = seen[0]
    return Cost(engine.calls, rows, size, _size(file) - before, engine.seconds, wall, processor - engine.processor)


def read(reader: str, question: str, budget: Budget) -> Callable[[Place], None]:
    """A run of a reader. Exits where it does not end well."""

    def run(place: Place) -> None:
        ask = Ask(question, (place.document_id,), reader=reader, budget=budget)
        last: Any = None
        for event in start(ask, place.deps(), place.checkpointer):
            last = event
        if not isinstance(last, Answer) or last.partial:
            raise SystemExit(f"{reader} did not end with an answer: {last}")

    return run


def empty(steps: int) -> Callable[[Place], None]:
    """A run of a graph whose nodes call the model and write a step's row, and nothing else."""

    def run(place: Place) -> None:
        from langgraph.graph import END, START, StateGraph

        deps = place.deps()
        deps.runs.start(_run_record())

        def node(state: _Count) -> _Count:
            complete(deps.engine, Request("step", (Message("user", "?"),)))
            deps.runs.step(_step_record())
            return {"count": state["count"] + 1}

        graph = StateGraph(_Count)
        graph.add_node("step", node)
        graph.add_edge(START, "step")
        graph.add_conditional_edges("step", lambda state: "step" if state["count"] < steps else END, ["step", END])
        compiled = graph.compile(checkpointer=place.checkpointer)
        config: Any = {"configurable": {"thread_id": _RUN}, "recursion_limit": steps + 10}
        for _ in compiled.stream({"count": 0}, config, stream_mode="custom", durability="sync"):
            pass
        place.checkpointer.delete_thread(_RUN)

    return run


class _Count(TypedDict):
    count: int


_RUN = "empty"


def _run_record() -> RunRecord:
    return RunRecord(_RUN, "?", "empty", (), {}, "", {}, "scripted", "running", None, None, datetime.now(UTC), None)


def _step_record() -> StepRecord:
    return StepRecord(_RUN, 0, "step", ("chunk",), 1, 1, 1, 0, 0.0, "done", None, datetime.now(UTC))


def _written(file: Path) -> tuple[int, int]:
    """Rows and bytes of all checkpoints now in the database, their writes included."""
    with closing(sqlite3.connect(file)) as connection:
        rows, size = connection.execute(
            "SELECT count(*), coalesce(sum(length(checkpoint) + length(metadata) + length(thread_id) "
            "+ 2 * length(checkpoint_id)), 0) FROM checkpoints"
        ).fetchone()
        (writes,) = connection.execute(
            "SELECT coalesce(sum(length(value) + length(thread_id) + length(checkpoint_id) + length(task_id) "
            "+ length(channel)), 0) FROM writes"
        ).fetchone()
    return int(rows), int(size) + int(writes)


def _size(file: Path) -> int:
    """Bytes of the database's pages, free ones too."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = [name for name, reader in readers().items() if reader.whole and name != "direct"]
    parser.add_argument("--readers", default=",".join(whole), help=f"[{','.join(whole)}]")
    parser.add_argument("--parts", type=int, default=500, help="parts to read [500]")
    parser.add_argument("--part-tokens", type=int, default=128, help="words of a part [128]")
    chosen = parser.parse_args()
    budget = replace(Budget(), part_tokens=chosen.part_tokens)
    rows: list[tuple[str, str, str, str]] = []
    details: dict[str, Any] = {}
    items = Items(shared_data(), lambda texts: [len(text.split()) for text in texts])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with _library(folder / "filled") as library:
            item = _sized(items, library, chosen.parts, budget)
            document_id = add(library, item)
            made = len(_parts(library, document_id, item.question, budget))
        for name in ("empty", *chosen.readers.split(",")):
            # Each in a database of its own: what one run's checkpoints left free would hide what the next one's take.
            shutil.copytree(folder / "filled", folder / name)
            with _library(folder / name) as library:
                run = empty(made) if name == "empty" else read(name, item.question, budget)
                try:
                    cost = measured(run, library, document_id)
                except CapabilityMissing as error:  # a scripted model has no attention to ask
                    rows.append((f"{name}: not measured", str(error), "", ""))
                    continue
            rows += _rows(name, made, cost)
            details[name] = {**asdict(cost), "parts": made}
            print("\n".join(" | ".join(row) for row in rows[-4:]), flush=True)
    write("checkpoints", rows, details)


def _library(folder: Path) -> Library:
    library = Library.open(folder)
    library.__dict__.update(engine=ScriptedEngine(reply, attention=True), embedder=HashedWords())
    return library


def _rows(name: str, made: int, cost: Cost) -> list[tuple[str, str, str, str]]:
    label = f"{name}: {made} parts, {cost.calls} calls, {cost.checkpoints} checkpoints"
    model = f"the model {cost.model_milliseconds:.1f} ms"
    return [
        (f"{label}: bytes of checkpoints", f"{cost.checkpoint_bytes / 1e6:.2f} MB", "", f"< {MEGABYTES} MB"),
        (f"{name}: the database grew by", f"{cost.database_bytes / 1e6:.2f} MB", "", ""),
        (f"{name}: all but the model, a call", f"{cost.milliseconds:.1f} ms", model, f"< {MILLISECONDS} ms"),
        (f"{name}: the same, processor's time", f"{cost.processor_milliseconds:.1f} ms", "", ""),
    ]


def _sized(items: Items, library: Library, wanted: int, budget: Budget) -> Item:
    """A document of about so many parts: whole chunks do not fill a part, so it is measured on a tenth first."""
    words = max(2000, wanted * budget.part_tokens // 10)
    trial = items.make("needle", words, 0)
    document_id = add(library, trial)
    made = len(_parts(library, document_id, trial.question, budget))
    library.remove(document_id)
    return items.make("needle", int(words * wanted / made * 1.01), 0)


def _parts(library: Library, document_id: str, question: str, budget: Budget) -> list[Any]:
    from longleaf.agents.part import parts

    return parts(Ask(question, (document_id,), budget=budget), library._deps)


if __name__ == "__main__":
    main()
