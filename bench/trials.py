"""One question put to one reader at one length, and what came out, as a row."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from baselines import cut, ranked, reason
from items import Item
from libraries import Libraries
from score import exact, f1, holds, support

from longleaf.agents.reader import Answer, Ask, Budget, Options, ReaderEvent, Reading, Work
from longleaf.agents.reason import asked
from longleaf.agents.run import start
from longleaf.engine.contract import Done, complete

BM25 = "bm25"
PASSAGES = "passages"

Row = dict[str, Any]
Events = Generator[ReaderEvent | Answer, None, None]


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


def attempt(trial: Trial, bench: Bench, progress: list[int]) -> Row:
    """Run one trial; its outcome as a row. A reader that fails has the row of a wrong answer, with the error.

    `progress` is kept at [part, of so many] meanwhile.
    """
    item = bench.make(trial.task, trial.length, trial.number)
    row: Row = {
        **asdict(trial),
        "tokens": bench.libraries.engine.count(item.text),
        "question": item.question,
        "golds": list(item.golds),
        "budget": asdict(bench.budget),
        "options": asdict(bench.options),
    }
    began = time.perf_counter()
    try:
        baseline = {BM25: _bm25, PASSAGES: _passages}.get(trial.reader)
        outcome = baseline(item, bench) if baseline else _read(trial.reader, item, bench, progress)
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
        events = cast(Events, start(ask, deps, place.checkpointer))
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
    return _replied(item, reply, places, began)


def _passages(item: Item, bench: Bench) -> Row:
    """`direct` on the passages that `retrieve` reasons from: its prompt and its held reply, no step between."""
    with bench.libraries.use(item) as place:
        ask = Ask(item.question, (place.document_id,), reader="direct", budget=bench.budget, options=bench.options)
        deps = place.deps()
        try:
            began = time.perf_counter()
            hits = deps.search.find(item.question, ask.document_ids).passages[: bench.budget.passages]
            places = sorted((hit.span.start, hit.span.end) for hit in hits)
            text = "\n\n".join(item.text[start:end].strip() for start, end in places)
            reply = complete(deps.engine, asked(Work(deps, ask, "passages"), "direct", document=text))
            return _replied(item, reply, places, began)
        finally:
            deps.worker.shutdown(wait=False)


def _replied(item: Item, reply: Done, places: Sequence[tuple[int, int]], began: float) -> Row:
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
