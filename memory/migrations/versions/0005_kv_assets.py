"""Kept keys and values of documents.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kv_asset",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(32), nullable=False),
        sa.Column("document_id", sa.String(64), nullable=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("hits", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_kv_asset"),
    )
    op.create_index("ix_kv_asset_document_id", "kv_asset", ["document_id"])


def downgrade() -> None:
    raise NotImplementedError("Longleaf's migrations go forward only; copy the library's folder before an upgrade")
