"""Thought templates: how earlier questions were answered, without what they were about.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "template",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_template"),
    )
    op.create_index("ix_template_run_id", "template", ["run_id"])


def downgrade() -> None:
    raise NotImplementedError("Longleaf's migrations go forward only; copy the library's folder before an upgrade")
