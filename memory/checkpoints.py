"""LangGraph's checkpoints, in the library's own database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from longleaf.engine.errors import MissingExtra
from longleaf.memory.database import BUSY_SECONDS, Database, configure_sqlite

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer


@contextmanager
def open_checkpointer(database: Database, types: Iterable[type] = ()) -> Iterator[BaseCheckpointSaver[str]]:
    """A checkpointer with a connection of its own, its tables made; for use by several threads.

    It makes objects only of `types` and of plain values again: a class that a graph keeps in its state must
    be named here, or comes back as a dict with a warning. (LangGraph allows the types of a state by itself
    only where LANGGRAPH_STRICT_MSGPACK was set before it was imported, and makes anything of anything
    otherwise.) Raises `MissingExtra` (PostgreSQL without its checkpointer).
    """
    opened = _postgresql if database.dialect == "postgresql" else _sqlite
    with opened(database, _strict_serializer(types)) as saver:
        yield saver


def delete_thread(checkpointer: BaseCheckpointSaver[str], run_id: str) -> None:
    """Drop all checkpoints of a run: they are for resuming, and a finished run needs none."""
    checkpointer.delete_thread(run_id)


@contextmanager
def _sqlite(database: Database, serializer: JsonPlusSerializer) -> Iterator[BaseCheckpointSaver[str]]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(
        str(database.url.database), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )
    with closing(connection):
        configure_sqlite(connection)
        # The saver commits once for several statements, so the driver must open its transactions.
        connection.isolation_level = "IMMEDIATE"
        saver = SqliteSaver(connection, serde=serializer)
        saver.setup()
        yield saver


@contextmanager
def _postgresql(database: Database, serializer: JsonPlusSerializer) -> Iterator[BaseCheckpointSaver[str]]:
    try:
        from langgraph.checkpoint.postgres import PostgresSaver
    except ImportError as error:
        raise MissingExtra(
            "LangGraph's checkpointer for PostgreSQL is not installed. "
            "Install it with `pip install 'longleaf[postgres]'`."
        ) from error
    import psycopg
    from psycopg.rows import dict_row

    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection: psycopg.Connection[dict[str, Any]] = psycopg.connect(
        address, autocommit=True, prepare_threshold=0, row_factory=dict_row
    )
    with closing(connection):
        saver = PostgresSaver(connection, serde=serializer)
        saver.setup()
        yield saver


def _strict_serializer(types: Iterable[type]) -> JsonPlusSerializer:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    return JsonPlusSerializer(allowed_msgpack_modules=tuple(types) or None)
