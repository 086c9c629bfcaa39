"""Runs trials, several at a time and within a time, and keeps each outcome as a line of JSON when it is there.

A run that is cut off has its lines; started again with the same file it goes on, and files of several machines merge.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from items import GOLD
from report import machine, read_lines
from trials import Bench, Row, Trial, attempt

from longleaf.agents import registry

_GRACE_SECONDS = 20.0


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


class Session:
    """Trials under way: several threads take them one by one and keep what comes out."""

    def __init__(self, trials: Iterable[Trial], bench: Bench, file: Path, seconds: float | None) -> None:
        self.rows = load([file]) if file.exists() else []
        done = {key_of(row) for row in self.rows if row["status"] != "cut"}
        self.waiting = [trial for trial in trials if trial.key() not in done]
        self.passed_over: list[Trial] = []
        self.errors: list[BaseException] = []
        self.end = time.monotonic() + seconds if seconds else float("inf")
        self._bench = bench
        self._file = file
        self._machine = machine()
        self._forecast = Forecast()
        self._running: dict[int, tuple[Trial, float, list[int]]] = {}
        self._lock = threading.Lock()

    def work(self) -> None:
        """Take trials until there are none, or the time is up. Several threads may."""
        try:
            while not self._bench.stop.is_set() and not self.errors and (taken := self._next()):
                trial, progress = taken
                self._done(trial, attempt(trial, self._bench, progress))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.errors.append(error)

    def cut_off(self) -> None:
        """Keep what is still running as cut."""
        with self._lock:
            for trial, began, progress in self._running.values():
                seen = {"status": "cut", "seconds": time.monotonic() - began, "part": progress[0], "parts": progress[1]}
                self._keep(asdict(trial) | seen)
            self._running.clear()

    def _next(self) -> tuple[Trial, list[int]] | None:
        with self._lock:
            while self.waiting:
                trial = self.waiting.pop(0)
                if time.monotonic() + (self._forecast.of(trial) or 0.0) <= self.end:
                    progress = [0, 0]
                    self._running[threading.get_ident()] = (trial, time.monotonic(), progress)
                    return trial, progress
                self.passed_over.append(trial)
        return None

    def _done(self, trial: Trial, row: Row) -> None:
        with self._lock:
            if self._running.pop(threading.get_ident(), None) is None:
                return  # too late: it counts as cut
            self._keep(row)
            if row["status"] != "cut":
                self._forecast.add(trial, row["seconds"])
            print(_line(row, len(self.waiting)), flush=True)

    def _keep(self, row: Row) -> None:
        self.rows.append(row | {"machine": self._machine})
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(self.rows[-1], ensure_ascii=False) + "\n")


def run(
    trials: Iterable[Trial], bench: Bench, file: Path, *, parallel: int = 1, seconds: float | None = None
) -> list[Row]:
    """Run the trials that `file` does not hold yet and add their rows to it; returns all rows of the file.

    Ends after `seconds`: what would take longer than is left is not begun, what is running then is cut.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    session = Session(trials, bench, file, seconds)
    threads = [threading.Thread(target=session.work, daemon=True) for _ in range(min(parallel, len(session.waiting)))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not session.errors:
        if time.monotonic() >= session.end:
            bench.stop.set()
        if time.monotonic() >= session.end + _GRACE_SECONDS:
            break
        time.sleep(0.05)
    if session.errors:
        bench.stop.set()
        raise session.errors[0]
    session.cut_off()
    if session.passed_over:
        print(f"the time was up: {len(session.passed_over)} trials were not begun", flush=True)
    return session.rows


def leave(status: int) -> None:
    """End the process at once: threads that read on after the time was up would hold it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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
