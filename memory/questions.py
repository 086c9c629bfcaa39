"""`Questions`: what was asked before and how it was answered, found or not."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from sqlalchemy import delete, or_, select, update

from longleaf.memory.database import Database
from longleaf.memory.errors import RunMissing
from longleaf.memory.facts import Order
from longleaf.memory.records import Feedback, QuestionRecord
from longleaf.memory.tables import Question, storable


class Questions:
    """The questions of a library, one a run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, question: QuestionRecord) -> None:
        """Keep a question with its answer. One of a run that is there already is not kept twice."""
        row = asdict(question) | {
            "document_ids": list(question.document_ids),
            "words": f" {' '.join(question.words)} ",
        }
        with self._database.session(write=True) as session:
            if session.get(Question, question.run_id) is None:
                session.add(Question(**row))

    def before(self, key: str, document_ids: Sequence[str] = ()) -> QuestionRecord | None:
        """The last time the question with this normalised form was asked of these documents, or None."""
        query = select(Question).where(Question.key == storable(key)).order_by(Question.asked_at.desc())
        with self._database.session() as session:
            for row in session.scalars(query):
                if set(row.document_ids) == set(document_ids):
                    return _question(row)
        return None

    def recall(
        self,
        *,
        words: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "newest",
        limit: int = 50,
    ) -> builtins.list[QuestionRecord]:
        """Questions by time of asking; `since` is included and `until` is not. `words` keeps those with one of these
        stems."""
        query = select(Question).limit(limit)
        if words:
            query = query.where(
                or_(*(Question.words.contains(f" {storable(word)} ", autoescape=True) for word in words))
            )
        if since is not None:
            query = query.where(Question.asked_at >= since)
        if until is not None:
            query = query.where(Question.asked_at < until)
        ordered = query.order_by(Question.asked_at.desc() if order == "newest" else Question.asked_at, Question.run_id)
        with self._database.session() as session:
            return [_question(row) for row in session.scalars(ordered)]

    def judge(self, run_id: str, feedback: Feedback | None) -> None:
        """Note what the user thinks of the answer. Raises `RunMissing` where the run's question was not kept."""
        change = update(Question).where(Question.run_id == run_id).values(feedback=feedback)
        with self._database.session(write=True) as session:
            if session.execute(change.returning(Question.run_id)).first() is None:
                raise RunMissing(f"No question was kept of run {run_id!r}. `longleaf runs` shows the runs.")

    def forget(self, run_ids: Sequence[str]) -> None:
        """Delete the questions of these runs; those that are not there are passed over."""
        with self._database.session(write=True) as session:
            session.execute(delete(Question).where(Question.run_id.in_(list(run_ids))))


def _question(row: Question) -> QuestionRecord:
    return QuestionRecord(
        run_id=row.run_id,
        asked=row.asked,
        key=row.key,
        words=tuple(row.words.split()),
        document_ids=tuple(row.document_ids),
        answer=row.answer,
        found=row.found,
        asked_at=row.asked_at,
        feedback=cast(Feedback | None, row.feedback),
    )
