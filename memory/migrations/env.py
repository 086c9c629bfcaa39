"""Alembic's entry: runs on the connection that `longleaf.memory.migration` hands over, in its transaction."""

from alembic import context

from longleaf.memory.migration import in_metadata
from longleaf.memory.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    include_name=in_metadata,
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
