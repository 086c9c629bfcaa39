"""`Versions`: every state that the memory of a run went through."""

from __future__ import annotations

import builtins
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, select

from longleaf.memory.database import Database
from longleaf.memory.records import MemoryLine, MemoryVersionRecord, SourceSpan
from longleaf.memory.tables import MemoryVersion


class Versions:
    """Versions of the memories of runs. A version once written is changed only by the step that wrote it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, version: MemoryVersionRecord) -> None:
        """Write a version, in place of one of the same sequence and of all after it.

        A step that was killed before its checkpoint runs again and writes its version again.
        """
        row = asdict(version) | {
            "chunk_ids": list(version.chunk_ids),
            "lines": [asdict(line) for line in version.lines],
            "added": list(version.added),
            "dropped": list(version.dropped),
        }
        later = (MemoryVersion.run_id == version.run_id) & (MemoryVersion.sequence >= version.sequence)
        with self._database.session(write=True) as session:
            session.execute(delete(MemoryVersion).where(later))
            session.add(MemoryVersion(**row))

    def get(self, run_id: str, sequence: int) -> MemoryVersionRecord | None:
        """One version of a run's memory; None where there is none of that number, as before the first change."""
        with self._database.session() as session:
            row = session.get(MemoryVersion, (run_id, sequence))
            return _record(row) if row is not None else None

    def latest(self, run_id: str) -> MemoryVersionRecord | None:
        """The newest version of a run's memory; None for a run that keeps none."""
        query = select(MemoryVersion).where(MemoryVersion.run_id == run_id)
        with self._database.session() as session:
            row = session.scalars(query.order_by(MemoryVersion.sequence.desc()).limit(1)).first()
            return _record(row) if row is not None else None

    def list(self, run_id: str) -> builtins.list[MemoryVersionRecord]:
        """All versions of a run's memory in order; none for a run that keeps none."""
        query = select(MemoryVersion).where(MemoryVersion.run_id == run_id).order_by(MemoryVersion.sequence)
        with self._database.session() as session:
            return [_record(row) for row in session.scalars(query)]


def _record(row: MemoryVersion) -> MemoryVersionRecord:
    return MemoryVersionRecord(
        run_id=row.run_id,
        sequence=row.sequence,
        node=row.node,
        chunk_ids=tuple(row.chunk_ids),
        text=row.text,
        tokens=row.tokens,
        lines=tuple(_line(line) for line in row.lines),
        added=tuple(row.added),
        dropped=tuple(row.dropped),
        created_at=row.created_at,
    )


def _line(plain: dict[str, Any]) -> MemoryLine:
    spans = tuple(SourceSpan(**span) for span in plain["spans"])
    return MemoryLine(plain["text"], spans, plain["mark"], plain.get("by", "model"), plain.get("out", ""))
