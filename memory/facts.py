"""`Facts`: what is known across conversations. Added and superseded, never overwritten; forgotten only when told to.

A fact of a document is tied to the document's hash and to a checked span. Whether it still holds is not stored but
worked out in SQL at every read: the document must be there, and its current text must hold the quote at the span.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Select, case, delete, false, func, or_, select, text, true, update
from sqlalchemy.orm import Session

from longleaf.memory.database import Database
from longleaf.memory.errors import FactMissing, FactUnsupported
from longleaf.memory.records import FactRecord, FactScope, FactSource
from longleaf.memory.tables import Document, Fact, TextVersion, storable

CANDIDATES_SHOWN = 10
IDS_AT_ONCE = 5000  # SQLite takes 32766 values in a statement, PostgreSQL 65535

Order = Literal["newest", "oldest"]


class Facts:
    """The facts of a library. Vectors of facts lie in the index and are a cache, like those of chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, fact: FactRecord) -> FactRecord:
        """Keep a fact; returns what is kept.

        What says the same of the same document and question is there already and is returned instead. One that says
        something else to the same question about the same document, or the same from a text that is no longer
        current, is superseded by the new one. Only what was found by a model can be superseded this way: a user's
        word stands until the user replaces it. Raises `FactUnsupported` where the document's text does not hold the
        quote at the span.
        """
        with self._database.session(write=True) as session:
            _check(session, fact)
            if fact.key:
                before = _current(Fact.key == fact.key, Fact.document_id == fact.document_id, Fact.source == "model")
                for row in session.execute(before.order_by(Fact.asked_at.desc(), Fact.id)):
                    known = _fact(row.Fact, row.stands)
                    if not known.stale and _same(known.text, fact.text):
                        return known
                    _supersede(session, known.id, fact)
            session.add(_row(fact))
        return fact

    def supersede(self, old: str, fact: FactRecord) -> FactRecord:
        """Put a new fact in the place of an old one, which stays and is marked. Raises `FactMissing` where the old one
        is not there or was superseded before, and `FactUnsupported` as `add`."""
        with self._database.session(write=True) as session:
            _check(session, fact)
            if not _supersede(session, old, fact):
                raise FactMissing(
                    f"Fact {old[:12]} is not there or was superseded before. `longleaf memory list --all` shows them."
                )
            session.add(_row(fact))
        return fact

    def recall(
        self,
        document_ids: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        words: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "newest",
        pinned: bool = False,
        limit: int = 50,
    ) -> builtins.list[FactRecord]:
        """Facts that were not superseded, by time of asking.

        `document_ids` None means all documents; facts of the user and of collections hold for any. `since` is
        included and `until` is not. `ids` keeps those of these ids, `words` those that hold one of these stems,
        `pinned` the pinned ones. Stale facts are among them and say so.
        """
        query = _current(*_bounds(document_ids, ids, words, since, until, pinned)).limit(limit)
        ordered = query.order_by(Fact.asked_at.desc() if order == "newest" else Fact.asked_at, Fact.id)
        with self._database.session() as session:
            return [_fact(row.Fact, row.stands) for row in session.execute(ordered)]

    def list(
        self, *, superseded: bool = False, document_id: str | None = None, limit: int | None = None
    ) -> builtins.list[FactRecord]:
        """Facts, newest first; with `superseded`, those too."""
        query = _all() if superseded else _current()
        if document_id is not None:
            query = query.where(Fact.document_id == document_id)
        with self._database.session() as session:
            rows = session.execute(query.order_by(Fact.asked_at.desc(), Fact.id).limit(limit))
            return [_fact(row.Fact, row.stands) for row in rows]

    def get(self, id_or_prefix: str) -> FactRecord:
        """The fact whose id is or begins with this. Raises `FactMissing` where none or several do."""
        wanted = storable(id_or_prefix.strip().lower())
        query = _all().where(Fact.id.startswith(wanted, autoescape=True)).order_by(Fact.id)
        with self._database.session() as session:
            found = [_fact(row.Fact, row.stands) for row in session.execute(query.limit(CANDIDATES_SHOWN + 1))]
        if wanted and len(found) == 1:
            return found[0]
        if not wanted or not found:
            raise FactMissing(f"No fact has the id {id_or_prefix!r}. `longleaf memory list --all` shows the facts.")
        ids = ", ".join(fact.id[:16] for fact in found[:CANDIDATES_SHOWN])
        raise FactMissing(f"Several facts have ids that begin with {id_or_prefix!r}; give more of it: {ids}")

    def history(self, fact_id: str) -> builtins.list[FactRecord]:
        """The facts this one took the place of, newest first."""
        found: builtins.list[FactRecord] = []
        wanted = [fact_id]
        with self._database.session() as session:
            while wanted:
                query = _all().where(Fact.superseded_by.in_(wanted)).order_by(Fact.asked_at.desc(), Fact.id)
                some = [_fact(row.Fact, row.stands) for row in session.execute(query)]
                found += some
                wanted = [fact.id for fact in some]
        return found

    def forget(self, fact_id: str) -> None:
        """Delete a fact for good. What it superseded stays superseded. Raises `FactMissing`.

        Its vector is another store's: drop it first, so that a crash between the two leaves the fact whole.
        """
        with self._database.session(write=True) as session:
            if self._database.dialect == "sqlite":
                # Overwrites what is deleted; not every build of SQLite does so by itself.
                session.execute(text("PRAGMA secure_delete = ON"))
            gone = session.execute(delete(Fact).where(Fact.id == fact_id).returning(Fact.id)).first()
        if gone is None:
            raise FactMissing(f"No fact has the id {fact_id!r}. `longleaf memory list --all` shows the facts.")

    def pin(self, fact_id: str, pinned: bool = True) -> None:
        """Have a fact recalled whatever is asked, or no longer. Raises `FactMissing`."""
        change = update(Fact).where(Fact.id == fact_id).values(pinned=pinned).returning(Fact.id)
        with self._database.session(write=True) as session:
            if session.execute(change).first() is None:
                raise FactMissing(f"No fact has the id {fact_id!r}. `longleaf memory list --all` shows the facts.")

    def count(self) -> int:
        """How many facts there are, superseded ones among them."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).select_from(Fact)) or 0

    def ids(self) -> set[str]:
        """Ids of all facts, superseded ones among them."""
        with self._database.session() as session:
            return set(session.scalars(select(Fact.id)))


_STANDS = case(
    (Fact.document_id.is_(None), true()),
    (Document.id.is_(None), false()),
    (Fact.quote == "", true()),
    (Document.text_id == Fact.text_id, true()),
    else_=func.coalesce(
        func.substr(TextVersion.characters, Fact.start + 1, Fact.end - Fact.start) == Fact.quote, false()
    ),
)


def _all() -> Select[Any]:
    """All facts with whether each is stale. A text is immutable, so that one it was checked against needs no look."""
    return (
        select(Fact, _STANDS.label("stands"))
        .outerjoin(Document, Document.id == Fact.document_id)
        .outerjoin(TextVersion, TextVersion.id == Document.text_id)
    )


def _current(*where: ColumnElement[bool]) -> Select[Any]:
    return _all().where(Fact.superseded_at.is_(None), *where)


def _bounds(
    document_ids: Sequence[str] | None,
    ids: Sequence[str] | None,
    words: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    pinned: bool,
) -> builtins.list[ColumnElement[bool]]:
    where: builtins.list[ColumnElement[bool]] = []
    if document_ids is not None:
        where.append(or_(Fact.document_id.is_(None), Fact.document_id.in_(list(document_ids)[:IDS_AT_ONCE])))
    if ids is not None:
        where.append(Fact.id.in_(list(ids)[:IDS_AT_ONCE]))
    if words:
        where.append(or_(*(Fact.words.contains(f" {storable(word)} ", autoescape=True) for word in words)))
    if since is not None:
        where.append(Fact.asked_at >= since)
    if until is not None:
        where.append(Fact.asked_at < until)
    if pinned:
        where.append(Fact.pinned.is_(True))
    return where


def _check(session: Session, fact: FactRecord) -> None:
    """Refuse a fact whose quote does not stand where it says, in the text it names."""
    if fact.document_id is None:
        return
    span = func.substr(TextVersion.characters, fact.start + 1, fact.end - fact.start)
    found = session.execute(
        select(span.label("held"))
        .join(Document, Document.text_id == TextVersion.id)
        .where(Document.id == fact.document_id, Document.text_id == fact.text_id)
    ).first()
    if found is None or found.held != storable(fact.quote):
        raise FactUnsupported(
            f"The fact {fact.text[:80]!r} is not kept: {fact.title or fact.document_id} does not hold its quote at "
            f"{fact.start}-{fact.end}. Ask again, so that it is checked against the document as it is now."
        )


def _supersede(session: Session, old: str, fact: FactRecord) -> bool:
    change = update(Fact).where(Fact.id == old, Fact.superseded_at.is_(None))
    marked = change.values(superseded_by=fact.id, superseded_at=fact.asked_at).returning(Fact.id)
    return session.execute(marked).first() is not None


def _same(one: str, other: str) -> bool:
    """Whether two wordings differ in no more than spaces, case and the mark at their end."""
    return " ".join(one.split()).casefold().rstrip(".!? ") == " ".join(other.split()).casefold().rstrip(".!? ")


def _row(fact: FactRecord) -> Fact:
    values = asdict(fact)
    del values["stale"]
    return Fact(**values | {"words": f" {' '.join(fact.words)} "})


def _fact(row: Fact, stands: bool) -> FactRecord:
    return FactRecord(
        id=row.id,
        scope=cast(FactScope, row.scope),
        scope_id=row.scope_id,
        text=row.text,
        question=row.question,
        key=row.key,
        words=tuple(row.words.split()),
        document_id=row.document_id,
        title=row.title,
        text_id=row.text_id,
        start=row.start,
        end=row.end,
        page=row.page,
        quote=row.quote,
        run_id=row.run_id,
        claim_ordinal=row.claim_ordinal,
        source=cast(FactSource, row.source),
        asked_at=row.asked_at,
        valid_from=row.valid_from,
        superseded_by=row.superseded_by,
        superseded_at=row.superseded_at,
        pinned=row.pinned,
        stale=not stands,
    )
