"""The first tables, and the full-text index of each database.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _documents()
    _runs()
    if op.get_bind().dialect.name == "postgresql":
        _words_postgresql()
    else:
        _words_sqlite()


def downgrade() -> None:
    raise NotImplementedError("Longleaf's migrations go forward only; copy the library's folder before an upgrade")


def _time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def _documents() -> None:
    op.create_table(
        "document",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("mime", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("characters", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("errors", sa.JSON, nullable=False),
        sa.Column("text_id", sa.String(32), nullable=False),
        _time("added_at"),
        sa.PrimaryKeyConstraint("id", name="pk_document"),
    )
    op.create_table(
        "text_version",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("document_id", sa.String(64), nullable=False),
        sa.Column("parser", sa.Text, nullable=False),
        sa.Column("parser_version", sa.Text, nullable=False),
        sa.Column("characters", sa.Text, nullable=False),
        sa.Column("pages", sa.JSON, nullable=False),
        sa.Column("headings", sa.JSON, nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_text_version"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], name="fk_text_version_document_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_text_version_document_id", "text_version", ["document_id"])
    op.create_table(
        "chunk",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("text_id", sa.String(32), nullable=False),
        sa.Column("document_id", sa.String(64), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("char_start", sa.Integer, nullable=False),
        sa.Column("char_end", sa.Integer, nullable=False),
        sa.Column("page_start", sa.Integer, nullable=False),
        sa.Column("page_end", sa.Integer, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chunk"),
        sa.ForeignKeyConstraint(["text_id"], ["text_version.id"], name="fk_chunk_text_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name="fk_chunk_document_id", ondelete="CASCADE"),
    )
    op.create_index("ix_chunk_text_id", "chunk", ["text_id"])
    op.create_index("ix_chunk_document_id", "chunk", ["document_id"])
    op.create_table(
        "ingest",
        sa.Column("text_id", sa.String(32), nullable=False),
        sa.Column("document_id", sa.String(64), nullable=False),
        _time("started_at"),
        sa.PrimaryKeyConstraint("text_id", name="pk_ingest"),
    )


def _runs() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("document_ids", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("settings_hash", sa.String(64), nullable=False),
        sa.Column("prompt_hashes", sa.JSON, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stop_reason", sa.Text, nullable=True),
        sa.Column("answer", sa.JSON, nullable=True),
        _time("started_at"),
        _time("ended_at", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_index("ix_run_started_at", "run", ["started_at"])
    op.create_table(
        "step",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("chunk_ids", sa.JSON, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("generated_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("error", sa.Text, nullable=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("run_id", "sequence", name="pk_step"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_step_run_id", ondelete="CASCADE"),
    )
    op.create_table(
        "claim",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("confidence", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "ordinal", name="pk_claim"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_claim_run_id", ondelete="CASCADE"),
    )
    op.create_table(
        "quote",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("claim_ordinal", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("document_id", sa.String(64), nullable=False),
        sa.Column("char_start", sa.Integer, nullable=False),
        sa.Column("char_end", sa.Integer, nullable=False),
        sa.Column("page", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "claim_ordinal", "ordinal", name="pk_quote"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_quote_run_id", ondelete="CASCADE"),
    )
    op.create_index("ix_quote_document_id", "quote", ["document_id"])


def _words_sqlite() -> None:
    # FTS5 keeps the inverted index; `words` keeps the bodies it was made from, because taking a row out of
    # the index needs its words again. The triggers also fire when a chunk goes by cascade.
    op.execute(
        "CREATE TABLE words (id INTEGER PRIMARY KEY, chunk_id VARCHAR(48) NOT NULL UNIQUE "
        "REFERENCES chunk (id) ON DELETE CASCADE, body TEXT NOT NULL)"
    )
    op.execute(
        "CREATE VIRTUAL TABLE words_index USING fts5 (body, content='words', content_rowid='id', "
        "tokenize='porter unicode61 remove_diacritics 2')"
    )
    op.execute(
        "CREATE TRIGGER words_added AFTER INSERT ON words BEGIN "
        "INSERT INTO words_index (rowid, body) VALUES (new.id, new.body); END"
    )
    op.execute(
        "CREATE TRIGGER words_removed AFTER DELETE ON words BEGIN "
        "INSERT INTO words_index (words_index, rowid, body) VALUES ('delete', old.id, old.body); END"
    )


def _words_postgresql() -> None:
    op.execute(
        "CREATE TABLE words (chunk_id VARCHAR(48) PRIMARY KEY REFERENCES chunk (id) ON DELETE CASCADE, "
        "lexemes TSVECTOR NOT NULL, length INTEGER NOT NULL)"
    )
    op.execute("CREATE INDEX ix_words_lexemes ON words USING gin (lexemes)")
