"""`Templates`: how earlier questions were answered, kept without what they were about."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, select

from longleaf.memory.database import Database
from longleaf.memory.records import TemplateRecord
from longleaf.memory.tables import Template


class Templates:
    """The thought templates of a library, one for each way in which a question of a shape was answered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learn(self, template: TemplateRecord) -> None:
        """Keep a template; one that is known is counted once more, unless this run has been counted."""
        row = asdict(template) | {"words": " ".join(template.words), "steps": list(template.steps)}
        with self._database.session(write=True) as session:
            known = session.get(Template, template.id)
            if known is None:
                session.add(Template(**row))
            elif known.run_id != template.run_id:
                known.uses += 1
                known.run_id = template.run_id
                known.made_at = template.made_at

    def list(self, limit: int = 1000) -> builtins.list[TemplateRecord]:
        """The templates that answered most often first, then the newest."""
        query = select(Template).order_by(Template.uses.desc(), Template.made_at.desc(), Template.id).limit(limit)
        with self._database.session() as session:
            return [_record(row) for row in session.scalars(query)]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete these; those that are not there are passed over."""
        with self._database.session(write=True) as session:
            session.execute(delete(Template).where(Template.id.in_(list(ids))))


def _record(row: Template) -> TemplateRecord:
    return TemplateRecord(
        id=row.id,
        shape=row.shape,
        words=tuple(row.words.split()),
        steps=tuple(row.steps),
        run_id=row.run_id,
        uses=row.uses,
        made_at=row.made_at,
    )
