"""`Conversations`: questions that belong together, and the summaries that stand for the older ones."""

from __future__ import annotations

import builtins
import uuid
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from longleaf.memory.database import Database
from longleaf.memory.errors import ConversationMissing
from longleaf.memory.records import ConversationRecord, SummaryRecord, TurnRecord
from longleaf.memory.tables import Conversation, Summary, Turn, storable

CANDIDATES_SHOWN = 10


class Conversations:
    """The conversations of a library. Turns and summaries are added, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, title: str, at: datetime | None = None, conversation_id: str | None = None) -> ConversationRecord:
        """A conversation without turns, or the one that has this id; `title` is what it is listed by."""
        now = at or datetime.now(UTC)
        id_ = conversation_id or uuid.uuid4().hex
        with self._database.session(write=True) as session:
            known = session.get(Conversation, id_)
            if known is not None:
                return _conversation(session, known)
            session.add(Conversation(id=id_, title=title, started_at=now, asked_at=now))
        return ConversationRecord(id_, title, now, now, 0)

    def append(self, turn: TurnRecord) -> TurnRecord:
        """Write a turn after those the conversation has; returns it with its ordinal. Safe from several threads.

        A turn of a run that has one is not written twice. Raises `ConversationMissing`.
        """
        with self._database.session(write=True) as session:
            # On PostgreSQL the row of the conversation is what two turns written at once wait for.
            held = select(Conversation.id).where(Conversation.id == turn.conversation_id).with_for_update()
            if session.scalar(held) is None:
                raise _gone(turn.conversation_id)
            mine = select(Turn).where(Turn.conversation_id == turn.conversation_id)
            known = session.scalar(mine.where(Turn.run_id == turn.run_id))
            if known is not None:
                return _turn(known)
            last = session.scalar(select(func.max(Turn.ordinal)).where(Turn.conversation_id == turn.conversation_id))
            placed = replace(turn, ordinal=(last or 0) + 1)
            session.add(Turn(**asdict(placed) | {"document_ids": list(placed.document_ids)}))
            session.execute(
                update(Conversation).where(Conversation.id == turn.conversation_id).values(asked_at=turn.asked_at)
            )
        return placed

    def summarise(self, summary: SummaryRecord) -> None:
        """Write a summary after those the conversation has. Raises `ConversationMissing`."""
        with self._database.session(write=True) as session:
            held = select(Conversation.id).where(Conversation.id == summary.conversation_id).with_for_update()
            if session.scalar(held) is None:
                raise _gone(summary.conversation_id)
            last = session.scalar(
                select(func.max(Summary.ordinal)).where(Summary.conversation_id == summary.conversation_id)
            )
            session.add(Summary(**asdict(summary), ordinal=(last or 0) + 1))

    def turns(self, conversation_id: str, after: int = 0) -> builtins.list[TurnRecord]:
        """The turns behind the `after`-th, in order; none for a conversation that is not there."""
        query = select(Turn).where(Turn.conversation_id == conversation_id, Turn.ordinal > after).order_by(Turn.ordinal)
        with self._database.session() as session:
            return [_turn(row) for row in session.scalars(query)]

    def summaries(self, conversation_id: str) -> builtins.list[SummaryRecord]:
        """All summaries of a conversation, oldest first."""
        query = select(Summary).where(Summary.conversation_id == conversation_id).order_by(Summary.ordinal)
        with self._database.session() as session:
            return [_summary(row) for row in session.scalars(query)]

    def summary(self, conversation_id: str) -> SummaryRecord | None:
        """The newest summary, or None where the turns still are few."""
        query = (
            select(Summary).where(Summary.conversation_id == conversation_id).order_by(Summary.ordinal.desc()).limit(1)
        )
        with self._database.session() as session:
            row = session.scalar(query)
            return None if row is None else _summary(row)

    def get(self, id_or_prefix: str) -> ConversationRecord:
        """The conversation whose id is or begins with this. Raises `ConversationMissing` where none or several do."""
        wanted = storable(id_or_prefix.strip().lower())
        with self._database.session() as session:
            query = select(Conversation).where(Conversation.id.startswith(wanted, autoescape=True))
            found = session.scalars(query.order_by(Conversation.id).limit(CANDIDATES_SHOWN + 1)).all()
            if wanted and len(found) == 1:
                return _conversation(session, found[0])
        if not wanted or not found:
            raise _gone(id_or_prefix)
        ids = ", ".join(row.id[:16] for row in found[:CANDIDATES_SHOWN])
        raise ConversationMissing(
            f"Several conversations have ids that begin with {id_or_prefix!r}; give more of it: {ids}"
        )

    def latest(self) -> ConversationRecord | None:
        """The conversation that was asked something last, or None."""
        found = self.list(1)
        return found[0] if found else None

    def list(self, limit: int = 50) -> builtins.list[ConversationRecord]:
        """Conversations, the one asked last first."""
        query = select(Conversation).order_by(Conversation.asked_at.desc(), Conversation.id).limit(limit)
        with self._database.session() as session:
            return [_conversation(session, row) for row in session.scalars(query)]

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation with its turns and summaries. Raises `ConversationMissing`."""
        with self._database.session(write=True) as session:
            gone = delete(Conversation).where(Conversation.id == conversation_id).returning(Conversation.id)
            if session.execute(gone).first() is None:
                raise _gone(conversation_id)


def _gone(conversation_id: str) -> ConversationMissing:
    return ConversationMissing(
        f"No conversation has the id {conversation_id!r}. `longleaf chats` shows the conversations and their ids."
    )


def _conversation(session: Session, row: Conversation) -> ConversationRecord:
    turns = session.scalar(select(func.count()).select_from(Turn).where(Turn.conversation_id == row.id)) or 0
    return ConversationRecord(row.id, row.title, row.started_at, row.asked_at, turns)


def _turn(row: Turn) -> TurnRecord:
    return TurnRecord(
        conversation_id=row.conversation_id,
        ordinal=row.ordinal,
        asked=row.asked,
        question=row.question,
        document_ids=tuple(row.document_ids),
        run_id=row.run_id,
        answer=row.answer,
        found=row.found,
        tokens=row.tokens,
        asked_at=row.asked_at,
    )


def _summary(row: Summary) -> SummaryRecord:
    return SummaryRecord(row.conversation_id, row.up_to, row.text, row.tokens, row.made_at)
