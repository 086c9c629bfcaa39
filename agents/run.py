"""Running a reader: the row in SQL, the graph with its checkpoints, and the answer at the end.

A run's id is its LangGraph thread. Whatever ends it early (Ctrl-C, a lost server, SIGKILL) leaves the checkpoints of
the steps that were done, and `resume` goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, cast

from longleaf.agents.errors import NothingToRead, QuestionEmpty, RunEnded
from longleaf.agents.evidence import quote
from longleaf.agents.prompt import hashes
from longleaf.agents.reader import Answer, Ask, Claim, Coverage, Deps, Quote, Read, ReaderEvent
from longleaf.agents.registry import reader
from longleaf.agents.state import ReadState
from longleaf.agents.support import unsupported
from longleaf.engine.contract import Usage
from longleaf.engine.errors import LongleafError
from longleaf.memory.documents import Documents
from longleaf.memory.records import ClaimRecord, DocumentRecord, QuoteRecord, RunRecord, StepRecord
from longleaf.memory.runs import Runs

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

_PAGES_NAMED = 3
NOT_FOUND = "Not found in the document."


def check(ask: Ask, documents: Documents) -> None:
    """Refuse what cannot be read, before a model is loaded for it. Raises as `start` does."""
    if not ask.question.strip():
        raise QuestionEmpty('The question is empty. Ask something, for example: longleaf ask FILE "What is …?"')
    reader(ask.reader)
    _documents(ask.document_ids, documents)


def stopped(run_id: str, runs: Runs) -> RunRecord:
    """A run that can be gone on with. Raises `RunMissing`, and `RunEnded` where it is done."""
    record = runs.get(run_id)
    if record.status == "done":
        raise RunEnded(f"Run {record.id[:12]} is done. `longleaf runs show {record.id[:12]}` shows its answer.")
    return record


def start(ask: Ask, deps: Deps, checkpointer: Any) -> Iterator[ReaderEvent | Answer]:
    """Put a question to a reader. Yields events while it reads and the `Answer` last.

    Raises `QuestionEmpty`, `NothingToRead`, `ReaderUnknown`, `DocumentMissing`, and what the engine raises. The run is
    then recorded as failed or interrupted, with its steps.
    """
    check(ask, deps.documents)
    chosen = reader(ask.reader)
    settings = {"budget": asdict(ask.budget), "seed": ask.seed}
    record = RunRecord(
        id=uuid.uuid4().hex,
        question=ask.question.strip(),
        reader=ask.reader,
        document_ids=ask.document_ids,
        settings=settings,
        settings_hash=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        prompt_hashes=hashes(chosen.prompts),
        model=deps.engine.card.name,
        status="running",
        stop_reason=None,
        answer=None,
        started_at=datetime.now(UTC),
        ended_at=None,
    )
    deps.runs.start(record)
    yield from _run(record, deps, checkpointer)


def resume(run_id: str, deps: Deps, checkpointer: Any) -> Iterator[ReaderEvent | Answer]:
    """Go on with a run that was interrupted or failed. Raises `RunMissing`, and `RunEnded` where it is done."""
    record = stopped(run_id, deps.runs)
    deps.runs.restart(record.id)
    yield from _run(record, deps, checkpointer)


def _run(record: RunRecord, deps: Deps, checkpointer: Any) -> Iterator[ReaderEvent | Answer]:
    deps = replace(deps, stop=Event())
    graph = reader(record.reader).build(deps, checkpointer)
    config: RunnableConfig = {"configurable": {"thread_id": record.id}}
    begun = bool(graph.get_state(config).next)
    try:
        yield from _events(graph, None if begun else _input(record), config, deps)
        answer = _answer(record, graph.get_state(config).values, deps)
    except LongleafError as error:
        deps.runs.finish(record.id, "failed", str(error), None)
        raise
    except (KeyboardInterrupt, GeneratorExit):
        deps.runs.finish(record.id, "interrupted", "stopped by the user", None)
        raise
    except BaseException as error:
        deps.runs.finish(record.id, "failed", f"{type(error).__name__}: {error}", None)
        raise
    deps.runs.finish(record.id, "done", None, to_json(answer), [_claim_record(claim) for claim in answer.claims])
    with suppress(NotImplementedError):  # not every checkpointer can; a finished thread is then only unused space
        checkpointer.delete_thread(record.id)
    yield answer


def _events(
    graph: CompiledStateGraph[Any, Any, Any, Any], given: ReadState | None, config: RunnableConfig, deps: Deps
) -> Iterator[ReaderEvent]:
    """Run the graph and yield its events.

    It runs in the reader's thread, because LangGraph lets a step end before it gives way to Ctrl-C or `close`, and a
    step may be minutes of a model's work: so the wait is here, where it can be left and the model told to stop.
    """
    events: SimpleQueue[ReaderEvent | BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            for event in graph.stream(given, config, stream_mode="custom", durability="sync"):
                events.put(cast(ReaderEvent, event))
            events.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            events.put(error)

    running = deps.worker.submit(work)
    try:
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        deps.stop.set()
        wait([running])


def _input(record: RunRecord) -> ReadState:
    budget = record.settings["budget"]
    return ReadState(
        run_id=record.id,
        question=record.question,
        document_ids=list(record.document_ids),
        passages_wanted=budget["passages"],
        quotes_wanted=budget["quotes"],
        answer_tokens=budget["answer_tokens"],
        seed=record.settings["seed"],
    )


def _documents(document_ids: Sequence[str], shelved: Documents) -> list[DocumentRecord]:
    documents = [shelved.get(key) for key in document_ids] if document_ids else shelved.list()
    if not documents:
        raise NothingToRead("The library holds no documents. Add one with `longleaf add FILE`.")
    return documents


def _answer(record: RunRecord, state: dict[str, Any], deps: Deps) -> Answer:
    steps = deps.runs.steps(record.id)
    found = bool(state.get("found"))
    evidence = state.get("evidence", []) if found else []
    quotes = tuple(quote(item, deps.shelf) for item in evidence)
    wording = state.get("wording", "") if found else ""
    confidence = max((item["confidence"] for item in evidence), default=0.0)
    text = wording or (quotes[0].text if quotes else NOT_FOUND)
    claims = (Claim(text, quotes, round(confidence, 3)),) if quotes else ()
    return Answer(
        text=text,
        claims=claims,
        found=bool(claims),
        reader=record.reader,
        coverage=_coverage(record, state, deps, text, quotes, steps),
        usage=_usage(steps),
        run_id=record.id,
    )


def _coverage(
    record: RunRecord,
    state: dict[str, Any],
    deps: Deps,
    text: str,
    quotes: Sequence[Quote],
    steps: Sequence[StepRecord],
) -> Coverage:
    documents = _documents(record.document_ids, deps.documents)
    # A passage is read where a call that ended well held its chunk, or all there is (`direct` names no chunks).
    done = [step.chunk_ids for step in steps if step.status == "done"]
    shown = {"" for _ in done} | {key for chunk_ids in done for key in chunk_ids}
    parts = tuple(
        Read(item["document_id"], item["start"], item["end"], "read" if item["chunk_id"] in shown else "skimmed")
        for item in state.get("passages", [])
    )
    notes = [note for document in documents for note in _unread(document)]
    notes += state.get("notes", [])
    words = unsupported(text, [item.text for item in quotes], record.question) if quotes else []
    if words:
        notes.append(f"the wording holds what its quotes do not: {', '.join(words)}")
    read = sum(part.end - part.start for part in parts if part.how == "read")
    return Coverage(read, sum(document.characters for document in documents), parts, tuple(notes))


def _unread(document: DocumentRecord) -> list[str]:
    """What of a document could not be read: page by page where that is short."""
    if len(document.errors) <= _PAGES_NAMED:
        return [f"{document.title}: {error}" for error in document.errors]
    return [
        f"{document.title}: {len(document.errors)} of {document.pages} {document.unit}s could not be read; "
        f"`longleaf show {document.id[:12]}` lists them"
    ]


def _usage(steps: Sequence[StepRecord]) -> Usage:
    total = Usage()
    for step in steps:
        total += Usage(1, step.prompt_tokens, step.generated_tokens, step.cached_tokens, step.seconds)
    return total


def to_json(answer: Answer) -> dict[str, Any]:
    """An answer as plain JSON values, for SQL and for `--json`."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(answer)))
    return plain


def from_json(plain: dict[str, Any]) -> Answer:
    """The answer that `to_json` wrote."""
    return Answer(
        text=plain["text"],
        claims=tuple(
            Claim(claim["text"], tuple(Quote(**item) for item in claim["quotes"]), claim["confidence"])
            for claim in plain["claims"]
        ),
        found=plain["found"],
        reader=plain["reader"],
        coverage=Coverage(
            plain["coverage"]["read"],
            plain["coverage"]["total"],
            tuple(Read(**part) for part in plain["coverage"]["parts"]),
            tuple(plain["coverage"]["notes"]),
        ),
        usage=Usage(**plain["usage"]),
        run_id=plain["run_id"],
    )


def _claim_record(claim: Claim) -> ClaimRecord:
    quotes = tuple(
        QuoteRecord(item.document_id, item.start, item.end, item.page, item.text, item.status) for item in claim.quotes
    )
    return ClaimRecord(claim.text, claim.confidence, quotes)
