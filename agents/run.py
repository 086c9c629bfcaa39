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

from longleaf.agents.coverage import covered
from longleaf.agents.denial import denied
from longleaf.agents.errors import NothingToRead, QuestionEmpty, RunEnded, RunStopped
from longleaf.agents.evidence import quote, remembered
from longleaf.agents.examples import prompts
from longleaf.agents.part import chosen_documents
from longleaf.agents.prompt import hashes
from longleaf.agents.reader import (
    Answer,
    Ask,
    Budget,
    Chosen,
    Claim,
    Coverage,
    Deps,
    Looked,
    Options,
    Quote,
    Read,
    ReaderEvent,
    Recalled,
    Work,
)
from longleaf.agents.registry import reader
from longleaf.agents.router import AUTO, resolve
from longleaf.agents.state import EvidenceState, ReadState
from longleaf.agents.support import circular, unrelated, unsupported
from longleaf.agents.template import learn
from longleaf.engine.contract import Usage
from longleaf.engine.errors import LongleafError
from longleaf.memory.documents import Documents
from longleaf.memory.records import ClaimRecord, DocumentRecord, QuoteRecord, RunRecord, StepRecord
from longleaf.memory.runs import Runs
from longleaf.retrieval.text import Span

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

_PAGES_NAMED = 3
NOT_FOUND = "Not found in the document."


def check(ask: Ask, documents: Documents) -> None:
    """Refuse what cannot be read, before a model is loaded for it. Raises as `start` does."""
    if not ask.question.strip():
        raise QuestionEmpty('The question is empty. Ask something, for example: longleaf ask FILE "What is …?"')
    if ask.reader != AUTO:
        reader(ask.reader)
    for key in ask.document_ids:
        documents.get(key)
    if not ask.document_ids and not documents.list():
        raise NothingToRead("The library holds no documents. Add one with `longleaf add FILE`.")


def stopped(run_id: str, runs: Runs) -> RunRecord:
    """A run that can be gone on with. Raises `RunMissing`, and `RunEnded` where it is done."""
    record = runs.get(run_id)
    if record.status == "done":
        raise RunEnded(f"Run {record.id[:12]} is done. `longleaf runs show {record.id[:12]}` shows its answer.")
    return record


def start(ask: Ask, deps: Deps, checkpointer: Any) -> Iterator[ReaderEvent | Answer]:
    """Put a question to a reader. Yields events while it reads and the `Answer` last.

    Where an error ends the run after something was read, the answer is what was read so far, marked `partial`, with
    the error in its coverage; the run is recorded as failed and can be resumed. Raises `QuestionEmpty`,
    `NothingToRead`, `ReaderUnknown`, `DocumentMissing`, and what the engine raises before anything was read.
    """
    check(ask, deps.documents)
    choice = resolve(ask, deps) if ask.reader == AUTO else None
    if choice:
        ask = replace(ask, reader=choice.reader)
    chosen = reader(ask.reader)
    settings = {"budget": asdict(ask.budget), "options": asdict(ask.options), "seed": ask.seed}
    record = RunRecord(
        id=uuid.uuid4().hex,
        question=ask.question.strip(),
        reader=ask.reader,
        document_ids=ask.document_ids,
        settings=settings | _talk(ask) | ({"why": choice.why} if choice else {}),
        settings_hash=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        prompt_hashes=hashes((*chosen.prompts, *prompts(ask))),
        model=deps.engine.card.name,
        status="running",
        stop_reason=None,
        answer=None,
        started_at=datetime.now(UTC),
        ended_at=None,
    )
    deps.runs.start(record)
    yield from _run(record, deps, checkpointer, Chosen(choice.reader, choice.why) if choice else None)


def resume(run_id: str, deps: Deps, checkpointer: Any) -> Iterator[ReaderEvent | Answer]:
    """Go on with a run that was interrupted or failed. Raises `RunMissing`, and `RunEnded` where it is done."""
    record = stopped(run_id, deps.runs)
    deps.runs.restart(record.id)
    yield from _run(record, deps, checkpointer)


def ask_of(record: RunRecord) -> Ask:
    """The question as it was put when the run began."""
    settings = record.settings
    return Ask(
        question=record.question,
        document_ids=record.document_ids,
        reader=record.reader,
        budget=Budget(**settings.get("budget", {})),
        options=Options(**settings.get("options", {})),
        seed=settings.get("seed", 0),
        conversation=settings.get("conversation", ""),
        asked=settings.get("asked", ""),
    )


def _talk(ask: Ask) -> dict[str, str]:
    """Where a question stands in a conversation; no part of how it is read."""
    return {name: value for name, value in (("conversation", ask.conversation), ("asked", ask.asked)) if value}


def _run(
    record: RunRecord, deps: Deps, checkpointer: Any, choice: Chosen | None = None
) -> Iterator[ReaderEvent | Answer]:
    work = Work(replace(deps, stop=Event()), ask_of(record), record.id)
    config: RunnableConfig = {"configurable": {"thread_id": record.id}, "max_concurrency": work.ask.budget.members + 1}
    graph: CompiledStateGraph[Any, Any, Any, Any] | None = None
    try:
        if choice:
            yield choice
        graph = reader(record.reader).build(work, checkpointer)
        before = graph.get_state(config)
        # Not `next`: that is empty too where a node's writes were kept and the checkpoint after them was not.
        if before.tasks or not before.values:  # else it was stopped after its last step, and is answered from there
            yield from _events(graph, None if before.tasks else ReadState(notes=[]), config, work.deps)
        answer = _placed(record, work, answer_of(work, graph.get_state(config).values))
    except LongleafError as error:
        partial = None
        if graph is not None and not isinstance(error, RunStopped):
            partial = _so_far(work, graph.get_state(config).values, error)
            partial = replace(partial, why=record.settings.get("why", "")) if partial else None
        deps.runs.finish(record.id, "failed", str(error), to_json(partial) if partial else None)
        if partial is None:
            raise
        yield partial
        return
    except (KeyboardInterrupt, GeneratorExit):
        deps.runs.finish(record.id, "interrupted", "stopped by the user", None)
        raise
    except BaseException as error:
        deps.runs.finish(record.id, "failed", f"{type(error).__name__}: {error}", None)
        raise
    deps.runs.finish(record.id, "done", None, to_json(answer), [_claim_record(claim) for claim in answer.claims])
    learn(work, answer)
    with suppress(NotImplementedError):  # not every checkpointer can; a finished thread is then only unused space
        checkpointer.delete_thread(record.id)
    yield answer


def _placed(record: RunRecord, work: Work, answer: Answer) -> Answer:
    """An answer with what was known before, its place in a conversation, and why its reader was chosen."""
    return replace(
        answer,
        recalled=work.deps.recall(work.ask.question, work.ask.document_ids),
        read_as=work.ask.question if work.ask.asked else "",
        conversation=work.ask.conversation,
        why=record.settings.get("why", ""),
    )


def _events(
    graph: CompiledStateGraph[Any, Any, Any, Any], given: ReadState | None, config: RunnableConfig, deps: Deps
) -> Iterator[ReaderEvent]:
    """Run the graph and yield its events.

    It runs in the reader's thread, because LangGraph lets a step end before it gives way to Ctrl-C or `close`, and a
    step may be minutes of a model's work: so the wait is here, where it can be left and the model told to stop.
    """
    from langgraph.runtime import RunControl

    events: SimpleQueue[ReaderEvent | BaseException | None] = SimpleQueue()
    control = RunControl()

    def work() -> None:
        try:
            for event in graph.stream(given, config, stream_mode="custom", durability="sync", control=control):
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
        # The engine ends at its next token, and a graph between two calls at its next step.
        control.request_drain("stopped")
        deps.stop.set()
        wait([running])


def _so_far(work: Work, state: dict[str, Any], error: LongleafError) -> Answer | None:
    """The answer from what was read before an error; None where nothing was."""
    if not any(step.status == "done" for step in work.deps.runs.steps(work.run_id)):
        return None
    answer = answer_of(work, state, partial=True)
    coverage = replace(answer.coverage, notes=(f"the reading ended early: {error}", *answer.coverage.notes))
    return replace(answer, coverage=coverage)


def answer_of(work: Work, state: dict[str, Any], *, partial: bool = False) -> Answer:
    """The answer that a graph's state, the run's steps and its memory hold.

    A `partial` one may come from a state that has no evidence yet: then the memory's spans are its evidence.
    """
    deps, ask = work.deps, work.ask
    steps = deps.runs.steps(work.run_id)
    found = bool(state.get("found"))
    evidence = state.get("evidence", []) if found else []
    wording = state.get("wording", "") if found else ""
    if partial and not evidence:
        evidence = remembered(work)
    if ask.options.task == "answer" and denied(state.get("wording", "")):
        return _denial(work, state, evidence, steps, partial=partial)
    claims = [
        Claim(
            claim["text"],
            tuple(quote(item, deps.shelf) for item in claim["evidence"]),
            _strength(claim["evidence"]),
            claim["about"],
        )
        for claim in state.get("claims", [])
    ]
    quotes = tuple(quote(item, deps.shelf) for item in evidence)
    text = wording or (quotes[0].text if quotes else NOT_FOUND)
    if quotes:
        claims.insert(0, Claim(text, quotes, _strength(evidence)))
    return Answer(
        text=text,
        claims=tuple(claims),
        found=bool(quotes),
        reader=ask.reader,
        coverage=_coverage(work, state, text, quotes, steps),
        usage=_usage(steps),
        run_id=work.run_id,
        partial=partial,
        looked=_looked(work, state),
    )


def _denial(
    work: Work,
    state: dict[str, Any],
    evidence: Sequence[EvidenceState],
    steps: Sequence[StepRecord],
    *,
    partial: bool,
) -> Answer:
    """The answer where the model read the text and said that it does not hold one."""
    closest = tuple(quote(item, work.deps.shelf) for item in evidence)
    coverage = _coverage(work, state, NOT_FOUND, (), steps)
    said = f'the model read the text it was given and said: "{state["wording"]}"'
    return Answer(
        text=NOT_FOUND,
        claims=(),
        found=False,
        reader=work.ask.reader,
        coverage=replace(coverage, notes=(said, *coverage.notes)),
        usage=_usage(steps),
        run_id=work.run_id,
        partial=partial,
        closest=closest,
        looked=_looked(work, state),
    )


def _looked(work: Work, state: dict[str, Any]) -> tuple[Looked, ...]:
    """Where the reply's attention went, with the documents' own characters."""
    found: list[Looked] = []
    for item in state.get("looked", []):
        text, span = work.deps.shelf.text(item["document_id"]), Span(item["start"], item["end"])
        page = text.page_at(span.start).number
        found.append(Looked(item["document_id"], span.start, span.end, page, text.slice(span), round(item["score"], 3)))
    return tuple(found)


def _strength(evidence: Sequence[EvidenceState]) -> float:
    return round(max((item["confidence"] for item in evidence), default=0.0), 3)


def _coverage(
    work: Work, state: dict[str, Any], text: str, quotes: Sequence[Quote], steps: Sequence[StepRecord]
) -> Coverage:
    deps = work.deps
    documents = chosen_documents(work.ask, deps)
    gap = "not reached" if reader(work.ask.reader).whole else None
    skimmed = [(item["document_id"], Span(item["start"], item["end"])) for item in state.get("passages", [])]
    parts = covered(steps, documents, deps, skimmed, state.get("ended") or gap if gap else None)
    notes = [note for document in documents for note in _unread(document)]
    notes += state.get("notes", [])
    words = unsupported(text, [item.text for item in quotes], work.ask.question) if quotes else []
    if words:
        notes.append(f"the wording holds what its quotes do not: {', '.join(words)}")
    elif quotes and circular(text):
        notes.append("the model's wording runs in circles; its quotes are what to trust")
    elif quotes and unrelated(text, [item.text for item in quotes]):
        notes.append(f"the wording has no word in common with its quotes: {text}")
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
        if step.status not in ("skipped", "skimmed"):
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
            Claim(
                claim["text"],
                tuple(Quote(**item) for item in claim["quotes"]),
                claim["confidence"],
                claim.get("about", ""),
            )
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
        partial=plain.get("partial", False),
        why=plain.get("why", ""),
        recalled=tuple(Recalled(**item) for item in plain.get("recalled", ())),
        read_as=plain.get("read_as", ""),
        conversation=plain.get("conversation", ""),
        closest=tuple(Quote(**item) for item in plain.get("closest", ())),
        looked=tuple(Looked(**item) for item in plain.get("looked", ())),
    )


def _claim_record(claim: Claim) -> ClaimRecord:
    quotes = tuple(
        QuoteRecord(item.document_id, item.start, item.end, item.page, item.text, item.status) for item in claim.quotes
    )
    return ClaimRecord(claim.text, claim.confidence, quotes)
