"""Conversations with their turns and summaries, facts across sessions, and the questions that were asked.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _conversations()
    _facts()
    _questions()


def downgrade() -> None:
    raise NotImplementedError("Longleaf's migrations go forward only; copy the library's folder before an upgrade")


def _time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def _conversations() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        _time("started_at"),
        _time("asked_at"),
        sa.PrimaryKeyConstraint("id", name="pk_conversation"),
    )
    op.create_index("ix_conversation_asked_at", "conversation", ["asked_at"])
    op.create_table(
        "turn",
        sa.Column("conversation_id", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("document_ids", sa.JSON, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("found", sa.Boolean, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        _time("asked_at"),
        sa.PrimaryKeyConstraint("conversation_id", "ordinal", name="pk_turn"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversation.id"], name="fk_turn_conversation_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_turn_run_id", "turn", ["run_id"])
    op.create_table(
        "summary",
        sa.Column("conversation_id", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("up_to", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        _time("made_at"),
        sa.PrimaryKeyConstraint("conversation_id", "ordinal", name="pk_summary"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversation.id"], name="fk_summary_conversation_id", ondelete="CASCADE"
        ),
    )


def _facts() -> None:
    op.create_table(
        "fact",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("scope_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("document_id", sa.String(64), nullable=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text_id", sa.String(32), nullable=True),
        sa.Column("char_start", sa.Integer, nullable=False),
        sa.Column("char_end", sa.Integer, nullable=False),
        sa.Column("page", sa.Integer, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("claim_ordinal", sa.Integer, nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        _time("asked_at"),
        _time("valid_from"),
        # No foreign key: a fact that took another's place may be forgotten, and the other stays superseded.
        sa.Column("superseded_by", sa.String(32), nullable=True),
        _time("superseded_at", null=True),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fact"),
    )
    op.create_index("ix_fact_asked_at", "fact", ["asked_at"])
    op.create_index("ix_fact_document_id", "fact", ["document_id"])


def _questions() -> None:
    op.create_table(
        "question",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("document_ids", sa.JSON, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("found", sa.Boolean, nullable=False),
        _time("asked_at"),
        sa.Column("feedback", sa.String(8), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_question"),
    )
    op.create_index("ix_question_asked_at", "question", ["asked_at"])
