"""`Runs`: what was asked, by which steps it was answered, and the quotes behind each claim."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import delete, func, insert, select, update

from longleaf.memory.database import Database
from longleaf.memory.errors import RunMissing
from longleaf.memory.records import ClaimRecord, QuoteRecord, RunRecord, RunStatus, StepRecord
from longleaf.memory.tables import Claim, Quote, Run, Step, storable

CANDIDATES_SHOWN = 10


class Runs:
    """The runs of a library. A run's id is also the thread of its LangGraph checkpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, run: RunRecord) -> None:
        """Write a new run."""
        row = asdict(run) | {"document_ids": list(run.document_ids)}
        with self._database.session(write=True) as session:
            session.add(Run(**row))

    def step(self, step: StepRecord) -> StepRecord:
        """Write one step of a run, after those it has; returns it with its sequence. Safe from several
        threads.

        Raises `RunMissing`.
        """
        with self._database.session(write=True) as session:
            # On PostgreSQL the row of the run is what two steps written at once wait for.
            if session.scalar(select(Run.id).where(Run.id == step.run_id).with_for_update()) is None:
                raise _gone(step.run_id)
            last = session.scalar(select(func.max(Step.sequence)).where(Step.run_id == step.run_id)) or 0
            placed = replace(step, sequence=last + 1)
            session.add(Step(**asdict(placed) | {"chunk_ids": list(placed.chunk_ids)}))
        return placed

    def restart(self, run_id: str) -> None:
        """Mark a run that was stopped as running again. Raises `RunMissing`."""
        change = update(Run).where(Run.id == run_id).values(status="running", stop_reason=None, ended_at=None)
        with self._database.session(write=True) as session:
            if session.execute(change.returning(Run.id)).first() is None:
                raise _gone(run_id)

    def finish(
        self,
        run_id: str,
        status: RunStatus,
        stop_reason: str | None,
        answer: dict[str, Any] | None,
        claims: Sequence[ClaimRecord] = (),
    ) -> None:
        """End a run, in one transaction. A run that is resumed and ends again has its claims replaced.

        Raises `RunMissing`.
        """
        change = update(Run).where(Run.id == run_id)
        with self._database.session(write=True) as session:
            ended = session.execute(
                change.values(
                    status=status, stop_reason=stop_reason, answer=answer, ended_at=datetime.now(UTC)
                ).returning(Run.id)
            )
            if ended.first() is None:
                raise _gone(run_id)
            session.execute(delete(Quote).where(Quote.run_id == run_id))
            session.execute(delete(Claim).where(Claim.run_id == run_id))
            claim_rows = [_claim_row(run_id, place, claim) for place, claim in enumerate(claims)]
            quote_rows = [row for place, claim in enumerate(claims) for row in _quote_rows(run_id, place, claim)]
            if claim_rows:
                session.execute(insert(Claim), claim_rows)
            if quote_rows:
                session.execute(insert(Quote), quote_rows)

    def interrupt_running(self) -> int:
        """Mark runs that say they run as interrupted; returns how many.

        For the holder of the library's writer lock, before it starts a run: those runs' processes are gone.
        """
        change = update(Run).where(Run.status == "running")
        values = {"status": "interrupted", "stop_reason": "the process ended", "ended_at": datetime.now(UTC)}
        with self._database.session(write=True) as session:
            return len(session.execute(change.values(**values).returning(Run.id)).all())

    def get(self, id_or_prefix: str) -> RunRecord:
        """The run whose id is or begins with this. Raises `RunMissing` where none or several do."""
        wanted = storable(id_or_prefix.strip())
        with self._database.session() as session:
            exact = session.get(Run, wanted)
            if exact is not None:
                return _run(exact)
            query = select(Run).where(Run.id.startswith(wanted, autoescape=True)).order_by(Run.id)
            found = session.scalars(query.limit(CANDIDATES_SHOWN + 1)).all()
        if wanted and len(found) == 1:
            return _run(found[0])
        if not wanted or not found:
            raise _gone(id_or_prefix)
        ids = ", ".join(row.id for row in found[:CANDIDATES_SHOWN])
        raise RunMissing(f"Several runs have ids that begin with {id_or_prefix!r}; give more of it: {ids}")

    def list(self, limit: int = 50) -> builtins.list[RunRecord]:
        """The newest runs, newest first."""
        query = select(Run).order_by(Run.started_at.desc(), Run.id).limit(limit)
        with self._database.session() as session:
            return [_run(row) for row in session.scalars(query)]

    def steps(self, run_id: str) -> builtins.list[StepRecord]:
        """The steps of a run in order; none for a run that is not there."""
        query = select(Step).where(Step.run_id == run_id).order_by(Step.sequence)
        with self._database.session() as session:
            return [_step(row) for row in session.scalars(query)]

    def claims(self, run_id: str) -> builtins.list[ClaimRecord]:
        """The claims of a run's answer with their quotes, in order; none for a run that is not there."""
        quotes: dict[int, builtins.list[QuoteRecord]] = {}
        with self._database.session() as session:
            query = select(Quote).where(Quote.run_id == run_id).order_by(Quote.claim_ordinal, Quote.ordinal)
            for row in session.scalars(query):
                quotes.setdefault(row.claim_ordinal, []).append(_quote(row))
            rows = session.scalars(select(Claim).where(Claim.run_id == run_id).order_by(Claim.ordinal))
            return [ClaimRecord(row.text, row.confidence, tuple(quotes.get(row.ordinal, ()))) for row in rows]


def _gone(run_id: str) -> RunMissing:
    return RunMissing(f"No run has the id {run_id!r}. `longleaf runs` shows the runs and their ids.")


def _claim_row(run_id: str, place: int, claim: ClaimRecord) -> dict[str, Any]:
    return {"run_id": run_id, "ordinal": place, "text": claim.text, "confidence": claim.confidence}


def _quote_rows(run_id: str, place: int, claim: ClaimRecord) -> builtins.list[dict[str, Any]]:
    return [
        asdict(quote) | {"run_id": run_id, "claim_ordinal": place, "ordinal": ordinal}
        for ordinal, quote in enumerate(claim.quotes)
    ]


def _run(row: Run) -> RunRecord:
    return RunRecord(
        id=row.id,
        question=row.question,
        reader=row.reader,
        document_ids=tuple(row.document_ids),
        settings=row.settings,
        settings_hash=row.settings_hash,
        prompt_hashes=row.prompt_hashes,
        model=row.model,
        status=cast(RunStatus, row.status),
        stop_reason=row.stop_reason,
        answer=row.answer,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _step(row: Step) -> StepRecord:
    return StepRecord(
        run_id=row.run_id,
        sequence=row.sequence,
        node=row.node,
        chunk_ids=tuple(row.chunk_ids),
        attempt=row.attempt,
        prompt_tokens=row.prompt_tokens,
        generated_tokens=row.generated_tokens,
        cached_tokens=row.cached_tokens,
        seconds=row.seconds,
        status=row.status,
        error=row.error,
        created_at=row.created_at,
    )


def _quote(row: Quote) -> QuoteRecord:
    return QuoteRecord(row.document_id, row.start, row.end, row.page, row.text, row.status)
