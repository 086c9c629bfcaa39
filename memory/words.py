"""`Words`: full-text search over the current chunks, ranked by BM25 on both databases.

SQLite: FTS5 with Porter stemming. PostgreSQL: `tsvector` with the English dictionary (which also drops stop
words) and BM25 worked out over its lexemes, because `ts_rank` does not know how rare a word is. Accents are
ignored on both. A script written without spaces (Chinese, Japanese, Thai) is one long word to either; the
vectors find those.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from longleaf.memory.database import Database
from longleaf.memory.tables import storable

# BM25's usual constants, and those FTS5 has built in.
SATURATION = 1.2
LENGTH_WEIGHT = 0.75

# Matches that PostgreSQL ranks by BM25, at least.
CANDIDATES = 1000

_SQLITE_ADD = text("INSERT INTO words (chunk_id, body) VALUES (:chunk_id, :body)")
_SQLITE_FIND = text(
    "SELECT words.chunk_id, -bm25(words_index) AS score FROM words_index "
    "JOIN words ON words.id = words_index.rowid "
    "WHERE words_index MATCH :query ORDER BY score DESC, words.chunk_id LIMIT :limit"
)
_SQLITE_FIND_IN = text(
    "SELECT words.chunk_id, -bm25(words_index) AS score FROM words_index "
    "JOIN words ON words.id = words_index.rowid JOIN chunk ON chunk.id = words.chunk_id "
    "WHERE words_index MATCH :query AND chunk.document_id IN (SELECT value FROM json_each(:document_ids)) "
    "ORDER BY score DESC, words.chunk_id LIMIT :limit"
)

_POSTGRESQL_ADD = text(
    "INSERT INTO words (chunk_id, lexemes, length) SELECT :chunk_id, lexemes, "
    "(SELECT coalesce(sum(cardinality(positions)), 0) FROM unnest(lexemes)) "
    "FROM to_tsvector('english', :body) AS lexemes"
)
_POSTGRESQL_LEXEMES = text("SELECT tsvector_to_array(to_tsvector('english', :words))")

# Taking every lexeme of every match apart is slow where a common word matches most chunks, so matches are
# first ranked by PostgreSQL's own measure times rarity, and the best of them by BM25.
_POSTGRESQL_FIND = text(
    """
    WITH total AS (SELECT count(*) AS n, greatest(avg(length), 1) AS length FROM words),
    term AS MATERIALIZED (
        SELECT lexeme, query, ln(1 + (total.n - df + 0.5) / (df + 0.5)) AS idf
        FROM unnest(CAST(:lexemes AS text[]), CAST(:queries AS tsquery[])) AS given (lexeme, query), total,
        LATERAL (SELECT count(*) AS df FROM words WHERE lexemes @@ given.query) AS seen
    ),
    candidate AS MATERIALIZED (
        SELECT chunk_id, lexemes, length FROM words
        WHERE lexemes @@ CAST(:query AS tsquery)
        AND (CAST(:document_ids AS text[]) IS NULL
             OR chunk_id IN (SELECT id FROM chunk WHERE document_id = ANY (CAST(:document_ids AS text[]))))
        ORDER BY (SELECT sum(idf * ts_rank('{1, 1, 1, 1}', lexemes, term.query, 1)) FROM term) DESC, chunk_id
        LIMIT :candidates
    )
    SELECT chunk_id, sum(
        idf * cardinality(positions) * (:k + 1)
        / (cardinality(positions) + :k * (1 - :b + :b * candidate.length / total.length))
    )::float AS score
    FROM candidate CROSS JOIN total CROSS JOIN LATERAL unnest(candidate.lexemes) AS found
    JOIN term USING (lexeme)
    GROUP BY chunk_id ORDER BY score DESC, chunk_id LIMIT :limit
    """
)


class Words:
    """The full-text index of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def search(self, terms: Sequence[str], document_ids: Sequence[str] | None, limit: int) -> list[tuple[str, float]]:
        """Chunks with any of the terms, best first, as (chunk id, BM25 score); higher is better.

        Terms are words or phrases of any characters, never a query language. On SQLite a term of several
        words is a phrase; on PostgreSQL each of its words counts. `document_ids` None searches all
        documents, an empty sequence none.
        """
        clean = _clean(terms)
        if not clean or limit < 1 or (document_ids is not None and not document_ids):
            return []
        find = _find_postgresql if self._database.dialect == "postgresql" else _find_sqlite
        with self._database.session() as session:
            return find(session, clean, document_ids, limit)


def index_words(session: Session, chunk_ids: Sequence[str], bodies: Sequence[str]) -> None:
    """Put the bodies of new chunks into the full-text index, within the caller's transaction.

    They leave it with their chunks, by cascade.
    """
    rows = [{"chunk_id": chunk_id, "body": storable(body)} for chunk_id, body in zip(chunk_ids, bodies, strict=True)]
    if not rows:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_POSTGRESQL_ADD, [row | {"body": _without_accents(row["body"])} for row in rows])
    else:
        session.execute(_SQLITE_ADD, rows)


def _find_sqlite(
    session: Session, terms: Sequence[str], document_ids: Sequence[str] | None, limit: int
) -> list[tuple[str, float]]:
    # In quotes every character is a letter or a separator to FTS5, never an operator.
    query = " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
    values = {"query": query, "limit": limit}
    if document_ids is None:
        rows = session.execute(_SQLITE_FIND, values)
    else:
        # As JSON: SQLite bounds how many values one statement may carry.
        rows = session.execute(_SQLITE_FIND_IN, values | {"document_ids": json.dumps(list(document_ids))})
    return [(row.chunk_id, float(row.score)) for row in rows]


def _find_postgresql(
    session: Session, terms: Sequence[str], document_ids: Sequence[str] | None, limit: int
) -> list[tuple[str, float]]:
    words = _without_accents("\n".join(terms))
    lexemes = session.execute(_POSTGRESQL_LEXEMES, {"words": words}).scalar_one()
    if not lexemes:
        return []
    queries = [_tsquery(lexeme) for lexeme in lexemes]
    rows = session.execute(
        _POSTGRESQL_FIND,
        {
            "lexemes": lexemes,
            "queries": queries,
            "query": " | ".join(queries),
            "document_ids": None if document_ids is None else list(document_ids),
            "limit": limit,
            "candidates": max(CANDIDATES, 10 * limit),
            "k": SATURATION,
            "b": LENGTH_WEIGHT,
        },
    )
    return [(row.chunk_id, float(row.score)) for row in rows]


def _tsquery(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def _clean(terms: Iterable[str]) -> list[str]:
    """Terms in order, without repeats; those without a letter or digit are dropped."""
    kept = (storable(term).strip() for term in terms)
    return list(dict.fromkeys(term for term in kept if any(map(str.isalnum, term))))


def _without_accents(text_: str) -> str:
    """What FTS5's `remove_diacritics 2` does, for PostgreSQL: café -> cafe. Other scripts' marks stay."""
    apart = unicodedata.normalize("NFD", text_)
    return unicodedata.normalize("NFC", "".join(c for c in apart if not "\u0300" <= c <= "\u036f"))
