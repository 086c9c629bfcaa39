"""Model calls of a run: streamed, retried where that can help, and recorded as `Step` rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from longleaf.agents.errors import RunStopped
from longleaf.agents.reader import Deps
from longleaf.engine.contract import Done, Event, Failed, Request, Token
from longleaf.memory.records import StepRecord

ATTEMPTS = 3
_BACKOFF_SECONDS = 0.5

OnToken = Callable[[str, str], None]
"""Called with (request id, piece of its reply)."""


def call(
    deps: Deps,
    run_id: str,
    node: str,
    requests: Sequence[Request],
    chunks: Mapping[str, tuple[str, ...]],
    on_token: OnToken | None = None,
) -> dict[str, Done]:
    """Run a batch and return its replies by request id; every attempt at a request becomes a step of the run.

    `chunks` names the chunks each request holds. A transient failure is tried again, three times in all, unless part
    of the reply was already streamed; then, or when it stays, its error is raised.
    """
    replies: dict[str, Done] = {}
    waiting = list(requests)
    for attempt in range(1, ATTEMPTS + 1):
        failures: dict[str, Failed] = {}
        streamed: set[str] = set()
        with _closing(deps.engine.generate(waiting)) as events:
            for event in events:
                if isinstance(event, Token):
                    _check(deps)
                    streamed.add(event.request_id)
                    if on_token:
                        on_token(event.request_id, event.text)
                    continue
                deps.runs.step(_step(run_id, node, chunks.get(event.request_id, ()), attempt, event))
                if isinstance(event, Done):
                    replies[event.request_id] = event
                else:
                    failures[event.request_id] = event
        if not failures:
            break
        for failure in failures.values():
            shown = on_token is not None and failure.request_id in streamed
            if not failure.transient or attempt == ATTEMPTS or shown:
                raise failure.error
        waiting = [request for request in waiting if request.id in failures]
        deps.stop.wait(_BACKOFF_SECONDS * 2 ** (attempt - 1))
        _check(deps)
    return replies


@contextmanager
def _closing(events: Iterator[Event]) -> Iterator[Iterator[Event]]:
    """Stop the engine where its events are not read to the end."""
    try:
        yield events
    finally:
        if isinstance(events, Generator):
            events.close()


def _check(deps: Deps) -> None:
    if deps.stop.is_set():
        raise RunStopped("The run was stopped.")


def _step(run_id: str, node: str, chunk_ids: tuple[str, ...], attempt: int, event: Done | Failed) -> StepRecord:
    usage = event.usage if isinstance(event, Done) else None
    return StepRecord(
        run_id=run_id,
        sequence=0,
        node=node,
        chunk_ids=chunk_ids,
        attempt=attempt,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        generated_tokens=usage.generated_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        seconds=usage.seconds if usage else 0.0,
        status="failed" if isinstance(event, Failed) else "done",
        error=str(event.error) if isinstance(event, Failed) else None,
        created_at=datetime.now(UTC),
    )
