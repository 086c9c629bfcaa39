"""Puts many questions to many readers, several at a time, and keeps each outcome as a line of JSON when it is there.

A run that is cut off has its lines; started again with the same file it goes on, and files of several machines merge.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baselines import cut, ranked, reason
from items import GOLD, Item
from libraries import Libraries
from report import machine, read_lines
from score import exact, f1, holds, support

from longleaf.agents import registry
from longleaf.agents.reader import Answer, Ask, Budget, Options, Reading
from longleaf.agents.run import start

BM25 = "bm25"
_GRACE_SECONDS = 20.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """One question at one length, put to one reader."""

    task: str
    length: int
    number: int
    reader: str

    def key(self) -> tuple[str, int, int, str]:
        return (self.task, self.length, self.number, self.reader)


@dataclass(frozen=True, slots=True)
class Bench:
    """What trials are run with. `make` gives the item of (task, length, number)."""

    make: Callable[[str, int, int], Item]
    libraries: Libraries
    budget: Budget = field(default_factory=Budget)
    options: Options = field(default_factory=Options)
    stop: threading.Event = field(default_factory=threading.Event)


class Cut(Exception):
    """The time was up before the answer was there."""


def planned(
    tasks: Sequence[str], lengths: Sequence[int], count: int, readers: Sequence[str], *, longest_first: bool
) -> list[Trial]:
    """Trials in rounds of items, so that every cell has some when the time is up.

    One at a time, readers of a few passages come first, then those of whole documents, and short documents before long
    ones, so that what would not fit the time is known beforehand. Side by side, in rounds of five items, long documents
    come first, so that none is left running alone at the end.
    """
    known = registry.readers()
    slow = {name for name in readers if name in known and known[name].whole and name != "direct"}
    chosen = [
        Trial(task, length, number, reader)
        for number in range(count)
        for task in tasks
        for length in lengths
        for reader in readers
    ]
    if longest_first:
        return sorted(chosen, key=lambda trial: (trial.number // 5, -trial.length))
    return sorted(chosen, key=lambda trial: (trial.number, trial.reader in slow, trial.length))


def attempt(trial: Trial, bench: Bench) -> Row:
    """Run one trial; its outcome as a row. A reader that fails has the row of a wrong answer, with the error."""
    item = bench.make(trial.task, trial.length, trial.number)
    row: Row = {
        "task": trial.task,
        "length": trial.length,
        "number": trial.number,
        "reader": trial.reader,
        "tokens": bench.libraries.engine.count(item.text),
        "question": item.question,
        "golds": list(item.golds),
        "budget": asdict(bench.budget),
        "options": asdict(bench.options),
    }
    progress = [0, 0]
    began = time.perf_counter()
    try:
        outcome = _bm25(item, bench) if trial.reader == BM25 else _read(trial.reader, item, bench, progress)
    except Cut:
        outcome = {"status": "cut"}
    except Exception as error:  # noqa: BLE001 - a reader's fault is an outcome; the row says which, and where
        where = "".join(traceback.format_exception(error)[-2:]).strip()
        outcome = {**_scored(item, "", []), "status": "failed", "error": f"{type(error).__name__}: {error}\n{where}"}
    return row | outcome | {"seconds": time.perf_counter() - began, "part": progress[0], "parts": progress[1]}


def _read(reader: str, item: Item, bench: Bench, progress: list[int]) -> Row:
    given = cut(item, bench.libraries.engine) if reader == "direct" else item
    with bench.libraries.use(given) as place:
        ask = Ask(item.question, (place.document_id,), reader=reader, budget=bench.budget, options=bench.options)
        deps = place.deps()
        began = time.perf_counter()
        events = start(ask, deps, place.checkpointer)
        try:
            for event in events:
                if isinstance(event, Answer):
                    seconds = time.perf_counter() - began
                    quotes = [(quote.start, quote.end) for quote in event.quotes]
                    return {
                        **_scored(item, event.text if event.found else "", quotes),
                        "status": "partial" if event.partial else "done",
                        "text": event.text,
                        "found": event.found,
                        "calls": event.usage.calls,
                        "prompt_tokens": event.usage.prompt_tokens,
                        "generated_tokens": event.usage.generated_tokens,
                        "cached_tokens": event.usage.cached_tokens,
                        "reading_seconds": seconds,
                        "read": event.coverage.read / max(1, event.coverage.total),
                        "cut": len(given.text) < len(item.text),
                        "why": event.why,
                        "notes": list(event.coverage.notes)[:4],
                    }
                if isinstance(event, Reading):
                    progress[:] = [event.chunk, event.of]
                if bench.stop.is_set():
                    raise Cut
        finally:
            events.close()
            deps.worker.shutdown(wait=False)
    raise AssertionError(f"{reader} ended without an answer")


def _bm25(item: Item, bench: Bench) -> Row:
    began = time.perf_counter()
    places = ranked(item.text, item.question)
    reply = reason(bench.libraries.engine, [item.text[start:end] for start, end in places], item.question)
    return {
        **_scored(item, reply.text.strip(), places),
        "status": "done",
        "text": reply.text.strip(),
        "found": True,
        "calls": 1,
        "prompt_tokens": reply.usage.prompt_tokens,
        "generated_tokens": reply.usage.generated_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "reading_seconds": time.perf_counter() - began,
    }


def _scored(item: Item, wording: str, quotes: Sequence[tuple[int, int]]) -> Row:
    """`right`: the wording holds the answer. `shown`: a quote does. `support`: share of the evidence that is quoted."""
    return {
        "right": holds(wording, item.golds),
        "exact": exact(wording, item.golds),
        "f1": f1(wording, item.golds),
        "shown": any(holds(item.text[start:end], item.golds) for start, end in quotes),
        "support": support(quotes, item.evidence),
        "quotes": len(quotes),
        "found": False,
        "text": "",
    }


class Forecast:
    """Seconds that a trial will take, from those that ran: of its own cell, or of shorter documents, scaled."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], list[float]] = {}

    def add(self, trial: Trial, seconds: float) -> None:
        self._seen.setdefault((trial.reader, trial.task, trial.length), []).append(seconds)

    def of(self, trial: Trial) -> float | None:
        """None where nothing is known of the reader on this task."""
        if own := self._seen.get((trial.reader, trial.task, trial.length)):
            return sum(own) / len(own)
        means = sorted(
            (length, sum(seconds) / len(seconds))
            for (reader, task, length), seconds in self._seen.items()
            if (reader, task) == (trial.reader, trial.task) and 0 < length < trial.length
        )
        if not means:
            return None
        length, seconds = means[-1]
        slope = 1.0
        if len(means) > 1:
            before, less = means[-2]
            slope = min(1.0, max(0.0, (seconds / max(less, 1e-9) - 1) / (length / before - 1)))
        return seconds * (1 + slope * (trial.length / length - 1))


def run(
    trials: Iterable[Trial], bench: Bench, file: Path, *, parallel: int = 1, seconds: float | None = None
) -> list[Row]:
    """Run the trials that `file` does not hold yet and add their rows to it; returns all rows of the file.

    Ends after `seconds`: what would take longer than is left is not begun, what is running then is cut.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = load([file]) if file.exists() else []
    done = {key_of(row) for row in rows if row["status"] != "cut"}
    waiting = [trial for trial in trials if trial.key() not in done]
    forecast, lock = Forecast(), threading.Lock()
    place = machine()
    end = time.monotonic() + seconds if seconds else float("inf")
    running: dict[int, Trial] = {}
    errors: list[BaseException] = []
    passed_over: list[Trial] = []

    def work() -> None:
        while not bench.stop.is_set() and not errors:
            with lock:
                if not waiting:
                    return
                trial = waiting.pop(0)
                expected = forecast.of(trial)
                if time.monotonic() + (expected or 0.0) > end:
                    passed_over.append(trial)
                    continue
                running[threading.get_ident()] = trial
            try:
                row = attempt(trial, bench)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                errors.append(error)
                return
            with lock:
                running.pop(threading.get_ident(), None)
                rows.append(row | {"machine": place})
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(rows[-1], ensure_ascii=False) + "\n")
                if row["status"] != "cut":
                    forecast.add(trial, row["seconds"])
                print(_line(row, len(waiting)), flush=True)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(parallel, len(waiting)))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not errors and time.monotonic() < end + _GRACE_SECONDS:
        if time.monotonic() >= end:
            bench.stop.set()
        time.sleep(0.05)
    if errors:
        bench.stop.set()
        raise errors[0]
    if passed_over or running:
        print(f"the time was up: {len(passed_over)} trials not begun, {len(running)} left running", flush=True)
    return rows


def leave() -> None:
    """End the process at once: threads that read on after the time was up would hold it."""
    sys.stdout.flush()
    os._exit(0)


def _line(row: Row, left: int) -> str:
    shown = repr(row["text"][:60]) if row["status"] == "done" else row["status"]
    right = "right" if row.get("right") else "-"
    length = "gold" if row["length"] == GOLD else row["length"]
    cell = f"{row['task']:7s} {length!s:>7s} {row['number']:3d} {row['reader']:11s}"
    return f"{left:5d} {cell} {row['seconds']:7.1f}s {right:5s} {shown}"


def key_of(row: Row) -> tuple[str, int, int, str]:
    return (row["task"], row["length"], row["number"], row["reader"])


def load(files: Iterable[Path]) -> list[Row]:
    """Rows of several files; of two for the same trial the later stands, unless it was cut."""
    kept: dict[tuple[str, int, int, str], Row] = {}
    for file in files:
        for row in read_lines(file):
            if row["status"] != "cut" or key_of(row) not in kept:
                kept[key_of(row)] = row
    return list(kept.values())
