"""Bringing a database to the present shape of the tables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from longleaf.memory.errors import DatabaseUnusable
from longleaf.memory.migrations import HEAD

# Alembic keeps the migration under way in module variables: one at a time in a process.
_ALEMBIC = threading.Lock()

# Our own number for PostgreSQL's advisory lock: the letters LONGLEAF.
_ADVISORY_LOCK = 0x4C4F4E474C454146

# Made by the migrations but unknown to the ORM (the full-text index), or made by LangGraph.
_FOREIGN_TABLES = ("words", "checkpoint", "writes")


def migrate(engine: Engine, name: str) -> None:
    """Run the migrations that the database lacks, in one transaction that one process at a time can hold.

    `name` is the database's name in messages. Raises `DatabaseUnusable` where a newer Longleaf has written
    it.
    """
    with engine.connect() as connection:
        if _is_current(connection, name):
            return
    with engine.connect().execution_options(longleaf_write=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if not _is_current(connection, name):
            _upgrade(connection)


def check_version(engine: Engine, name: str) -> None:
    """Raise `DatabaseUnusable` unless the database has the present shape; changes nothing."""
    with engine.connect() as connection:
        if not _is_current(connection, name):
            raise DatabaseUnusable(
                f"{name} was made by an older Longleaf. "
                "Run a command that writes (`longleaf add`, `longleaf ask`) to bring it up to date."
            )


def in_metadata(name: str | None, kind: str, parents: Mapping[Any, str | None]) -> bool:
    """Whether Alembic should compare this thing of the database with the tables of `tables`."""
    table = name if kind == "table" else parents.get("table_name")
    return not (table or "").startswith(_FOREIGN_TABLES)


def revision(connection: Connection) -> str | None:
    """The newest migration that ran on this database, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _is_current(connection: Connection, name: str) -> bool:
    found = revision(connection)
    if found is not None and found > HEAD:
        raise DatabaseUnusable(
            f"{name} was written by a newer Longleaf (schema {found}; this one knows {HEAD}). "
            "Upgrade with `pip install -U longleaf`."
        )
    return found == HEAD


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")
