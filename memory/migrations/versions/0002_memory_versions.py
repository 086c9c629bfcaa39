"""The versions of a run's memory.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memory_version",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("chunk_ids", sa.JSON, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("lines", sa.JSON, nullable=False),
        sa.Column("added", sa.JSON, nullable=False),
        sa.Column("dropped", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "sequence", name="pk_memory_version"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_memory_version_run_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    raise NotImplementedError("Longleaf's migrations go forward only; copy the library's folder before an upgrade")
