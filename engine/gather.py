"""`Gather`: calls that come from several threads at once go to the model as one batch.

A step of decoding costs a GPU, and a CPU within limits, much the same for one reply as for many. Readers that ask in
parallel each call `generate`; without this, their calls would take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from longleaf.engine.contract import Engine, Event, ModelCard, Request, Token


@dataclass(eq=False)
class _Call:
    """One caller's requests, and where its events go. `left` counts its requests that have not ended."""

    requests: Sequence[Request]
    together: int
    left: int
    events: SimpleQueue[Event | BaseException | None] = field(default_factory=SimpleQueue)
    closed: bool = False

    @property
    def listens(self) -> bool:
        return self.left > 0 and not self.closed


class Gather:
    """An engine that runs what several threads ask of another one together.

    Each of n threads that are about to call says so with `together=n`: the first of them then waits a moment for the
    others. A caller's events end when its own requests have ended, and closing its iterator drops what is left of them;
    the batch stops when nobody listens. An exception of the engine reaches every caller of the batch. Everything else
    the engine can do is passed on to it. `patience` is how many seconds a batch waits for calls that were announced.
    """

    def __init__(self, engine: Engine, patience: float = 0.05) -> None:
        self._engine = engine
        self._patience = patience
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._lock = threading.Lock()
        self._serving = False
        # One thread for good: each new one would bring a memory arena and a team of OpenMP threads of its own.
        self._worker = ThreadPoolExecutor(1, "longleaf-gather")

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self._engine.card

    def count(self, text: str) -> int:
        """Tokens of `text` on its own."""
        return self._engine.count(text)

    def close(self) -> None:
        """Close the engine. Calls that come after it, or wait for their turn, get what the closed engine gives."""
        self._engine.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while a copy is made, before there is an engine to ask
            raise AttributeError(name)
        return getattr(self._engine, name)  # optional capabilities, such as `score_context`

    def generate(self, requests: Sequence[Request], together: int = 1) -> Iterator[Event]:
        """Answer a batch, streaming, in one go with what other threads ask meanwhile.

        `together` is how many threads, this one with them, are about to call.
        """
        call = _Call(requests, together, len(requests))
        if not requests:
            return
        self._calls.put(call)
        with self._lock:
            if not self._serving:
                self._worker.submit(self._serve)
                self._serving = True
        try:
            while (event := call.events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            call.closed = True

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._calls.empty():
                    self._serving = False
                    return
            self._run(self._waiting())

    def _waiting(self) -> list[_Call]:
        """The calls that are there, and those that were announced and come within the time."""
        calls = [self._calls.get()]
        while True:
            expected = max(call.together for call in calls)
            try:
                calls.append(self._calls.get(timeout=self._patience if len(calls) < expected else 0))
            except Empty:
                return calls

    def _run(self, calls: Sequence[_Call]) -> None:
        owners: dict[str, tuple[_Call, str]] = {}
        batch: list[Request] = []
        for number, call in enumerate(calls):
            for request in call.requests:
                key = request.id if request.id not in owners else f"{request.id}~{number}"  # two callers, one id
                owners[key] = (call, request.id)
                batch.append(replace(request, id=key))
        events: Iterator[Event] | None = None
        try:
            events = self._engine.generate(batch)
            for event in events:
                call, name = owners[event.request_id]
                call.events.put(replace(event, request_id=name))
                if not isinstance(event, Token):
                    call.left -= 1
                    if call.left == 0:
                        call.events.put(None)
                # A batch that ended by itself is read to its end: the engine may tidy up after the last reply.
                if any(other.left for other in calls) and not any(other.listens for other in calls):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in every caller's thread
            for call in calls:
                call.events.put(error)
        finally:
            for call in calls:
                call.events.put(None)
            close = getattr(events, "close", None)
            if close is not None:
                close()
