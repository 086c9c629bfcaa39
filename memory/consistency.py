"""Bringing the vector index back in step with SQL after a crash."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from longleaf.memory.documents import Documents
from longleaf.memory.facts import Facts
from longleaf.memory.vectors import Vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What `reconcile` found: texts whose vectors it dropped, and chunks that must be embedded again."""

    dropped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.dropped and not self.missing


def reconcile(documents: Documents, vectors: Vectors) -> Reconciled:
    """Drop vectors that belong to no document and name the chunks that have none.

    Only for the holder of the writer lock: adds under way in another process would look broken. Costs one
    read of the journal and two counts where nothing is wrong. Ids are compared only where the journal or
    the counts say so.
    """
    dropped = _settle_journal(documents, vectors)
    missing: tuple[str, ...] = ()
    if dropped or documents.chunk_count() != vectors.count():
        orphans, missing = _compare(documents, vectors)
        dropped = tuple(dict.fromkeys((*dropped, *orphans)))
    if dropped:
        logger.info("dropped the vectors of %d texts that are not in the library", len(dropped))
    if missing:
        logger.warning("the vector index lacks %d chunks; they must be embedded again", len(missing))
    return Reconciled(dropped, missing)


def reconcile_facts(facts: Facts, vectors: Vectors) -> tuple[str, ...]:
    """Drop vectors of facts that are gone, and name the facts that have none.

    A fact is written before its vector and forgotten after it, and a superseded one keeps its vector (recall asks SQL
    which may be shown): so a crash only ever leaves too few vectors, and the two counts show it. For the holder of
    the writer lock.
    """
    if facts.count() == vectors.count():
        return ()
    recorded, indexed = facts.ids(), vectors.ids()
    vectors.remove(sorted(indexed - recorded))
    missing = tuple(sorted(recorded - indexed))
    if missing:
        logger.info("the vector index lacks %d facts; they are embedded again", len(missing))
    return missing


def _settle_journal(documents: Documents, vectors: Vectors) -> tuple[str, ...]:
    """Drop the vectors of every text in the journal.

    A text that is in SQL too was being added again: its vectors may be of other chunks under the same ids,
    so they go as well and are embedded again.
    """
    texts = tuple(text_id for _, text_id in documents.unfinished())
    for text_id in texts:
        vectors.remove_text(text_id)
        documents.forget_unfinished(text_id)
    return texts


def _compare(documents: Documents, vectors: Vectors) -> tuple[tuple[str, ...], tuple[str, ...]]:
    recorded, indexed = documents.chunk_ids(), vectors.ids()
    orphans = indexed - recorded
    if orphans:
        vectors.remove(sorted(orphans))
    texts = tuple(sorted({chunk_id.split(":", 1)[0] for chunk_id in orphans}))
    return texts, tuple(sorted(recorded - indexed))
