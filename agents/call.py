"""Model calls of a run: streamed, retried where that can help, and recorded as `Step` rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from longleaf.agents.errors import RunStopped
from longleaf.agents.reader import Deps, Work
from longleaf.engine.contract import Done, Event, Failed, OpenDocument, Request, Token
from longleaf.engine.gather import Gather
from longleaf.memory.records import StepRecord

ATTEMPTS = 3
_BACKOFF_SECONDS = 0.5

OnToken = Callable[[str, str], None]
"""Called with (request id, piece of its reply)."""


def call(
    work: Work,
    node: str,
    requests: Sequence[Request],
    chunks: Mapping[str, tuple[str, ...]] | None = None,
    on_token: OnToken | None = None,
    together: int = 1,
    engine: OpenDocument | None = None,
) -> dict[str, Done]:
    """Run a batch and return its replies by request id; every attempt at a request becomes a step of the run.

    `chunks` names the chunks each request holds. A failure that `retry_on` lets pass is tried again, three times in
    all, unless part of the reply was already streamed; then, or when it stays, its error is raised. `together` is how
    many nodes of this step call at once: a `Gather` then makes one batch of their calls. `engine` is a document that is
    open, and answers instead of the engine.
    """
    replies, failures = call_each(work, node, requests, chunks, on_token, together, engine)
    for failure in failures.values():
        raise failure.error
    return replies


def call_each(
    work: Work,
    node: str,
    requests: Sequence[Request],
    chunks: Mapping[str, tuple[str, ...]] | None = None,
    on_token: OnToken | None = None,
    together: int = 1,
    engine: OpenDocument | None = None,
) -> tuple[dict[str, Done], dict[str, Failed]]:
    """As `call`, but requests that stay failed are returned beside the replies, for readers that go on without them."""
    deps = work.deps
    replies: dict[str, Done] = {}
    lost: dict[str, Failed] = {}
    waiting = list(requests)
    for attempt in range(1, ATTEMPTS + 1):
        failures: dict[str, Failed] = {}
        streamed: set[str] = set()
        _check(deps)
        asked = engine or deps.engine
        started = asked.generate(waiting, together) if isinstance(asked, Gather) else asked.generate(waiting)
        with _closing(started) as events:
            for event in events:
                if isinstance(event, Token):
                    _check(deps)
                    streamed.add(event.request_id)
                    if on_token:
                        on_token(event.request_id, event.text)
                    continue
                deps.runs.step(_step(work.run_id, node, (chunks or {}).get(event.request_id, ()), attempt, event))
                if isinstance(event, Done):
                    replies[event.request_id] = event
                else:
                    failures[event.request_id] = event
        for failure in failures.values():
            shown = on_token is not None and failure.request_id in streamed
            if attempt == ATTEMPTS or shown or not retry_on(failure):
                lost[failure.request_id] = failure
        waiting = [request for request in waiting if request.id in failures and request.id not in lost]
        if not waiting:
            break
        deps.stop.wait(_BACKOFF_SECONDS * 2 ** (attempt - 1))
    return replies, lost


def retry_on(failure: Failed) -> bool:
    """Whether a failure may pass by itself: HTTP 429 and 5xx, lost connections, time-outs.

    LangGraph's default would retry none of these and every bare `Exception`. A full GPU is not among them: the torch
    engine halves the batch by itself, and a single request that does not fit never will.
    """
    return failure.transient


def skip(work: Work, node: str, chunk_ids: tuple[str, ...], why: str) -> None:
    """Record that chunks were left out on purpose, so that coverage tells of it."""
    _note(work, node, chunk_ids, "skipped", why)


def skim(work: Work, node: str, chunk_ids: tuple[str, ...], why: str) -> None:
    """Record that code took sentences from chunks that no model may have read, so that coverage tells of it."""
    _note(work, node, chunk_ids, "skimmed", why)


def _note(work: Work, node: str, chunk_ids: tuple[str, ...], status: str, why: str) -> None:
    work.deps.runs.step(StepRecord(work.run_id, 0, node, chunk_ids, 1, 0, 0, 0, 0.0, status, why, datetime.now(UTC)))


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
