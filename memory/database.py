"""`Database`: one SQL database, SQLite in the library's folder or PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from longleaf.engine.errors import LongleafError, MissingExtra
from longleaf.memory.errors import DatabaseUnusable, LibraryBusy, LibraryMissing
from longleaf.memory.migration import check_version, migrate

BUSY_SECONDS = 5.0


class Database:
    """An open database. Use from any thread; every session is a transaction of its own.

    `url` prints without its password.
    """

    def __init__(self, engine: Engine, url: URL) -> None:
        self._engine = engine
        self._url = url
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @classmethod
    def open(cls, url: str | Path | URL, *, read_only: bool = False) -> Database:
        """Open a database and bring its tables up to date.

        `url` is `sqlite:///file`, `postgresql://user:password@host/name`, or the path of an SQLite file.
        Read only, nothing is created or migrated, and it works while another process writes. Raises
        `LibraryMissing` (read only, no such file), `DatabaseUnusable`, `MissingExtra` (PostgreSQL without
        its driver), `LibraryBusy` (another process held the database for more than five seconds).
        """
        target = database_url(url)
        if read_only and target.get_backend_name() == "sqlite" and not Path(target.database or "").is_file():
            raise LibraryMissing(
                f"There is no library database at {target.database}. Add a document to make one (`longleaf add FILE`)."
            )
        engine = _engine(target, read_only=read_only)
        try:
            with _clear_errors(target):
                (check_version if read_only else migrate)(engine, str(target))
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, target)

    @property
    def url(self) -> URL:
        return self._url

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back on an error.

        One that will write says so: SQLite then takes the write lock first, and waits for it, where a
        transaction that turns from reading to writing may be refused. Raises `LibraryBusy` and
        `DatabaseUnusable`.
        """
        with _clear_errors(self._url), self._sessions.begin() as session:
            if write:
                session.connection(execution_options={"longleaf_write": True})
            yield session

    def close(self) -> None:
        """Close all connections. Safe to call twice."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({str(self._url)!r})"


def database_url(url: str | Path | URL) -> URL:
    """The URL with the driver Longleaf uses. Raises `DatabaseUnusable` for any other database."""
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUnusable(
            "The setting `database` is not a URL. Use `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise DatabaseUnusable("A library needs an SQLite file: `sqlite:///FILE`; one in memory forgets it all.")
        return parsed.set(drivername="sqlite")
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise DatabaseUnusable(
        f"Longleaf keeps its state in SQLite or PostgreSQL, not in {parsed.drivername!r}. "
        "Use `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."
    )


def _engine(url: URL, *, read_only: bool) -> Engine:
    if url.get_backend_name() == "postgresql":
        if find_spec("psycopg") is None:
            raise MissingExtra(
                f"The library's database is PostgreSQL ({url}), whose driver is not installed. "
                "Install it with `pip install 'longleaf[postgres]'`."
            )
        options = {"postgresql_readonly": True} if read_only else {}
        return create_engine(url, pool_pre_ping=True, execution_options=options)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    _prepare_sqlite(engine, read_only=read_only)
    return engine


def _prepare_sqlite(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        configure_sqlite(connection, read_only=read_only)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("longleaf_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def configure_sqlite(connection: sqlite3.Connection, *, read_only: bool = False) -> None:
    """Set what Longleaf relies on for one connection of sqlite3.

    synchronous=NORMAL: with WAL, a killed process loses nothing and a power cut cannot damage the file; it
    may undo the last commits, which `reconcile` then sees. FULL would add a disk flush to every step of
    every run.
    """
    # Transactions begin where `Database` says, not where the driver guesses.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    if read_only:
        # Not SQLite's own mode=ro: a reader of a WAL database must be able to make its shared-memory file.
        connection.execute("PRAGMA query_only = ON")
    elif connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


# What SQLite says, and what we say. By words, because Python tells apart few of SQLite's errors by class.
_SQLITE_ERRORS: tuple[tuple[tuple[str, ...], type[LongleafError], str], ...] = (
    (
        ("locked",),
        LibraryBusy,
        "Another process has held {file} for more than {seconds:.0f} seconds. "
        "Wait until it is done or stop it, then try again.",
    ),
    (
        ("not a database", "malformed"),
        DatabaseUnusable,
        "{file} is not a database or is damaged ({reason}). Move it away and put back a copy of it, "
        "or add the documents again.",
    ),
    (
        ("disk is full",),
        DatabaseUnusable,
        "The disk that holds {file} is full. Make room, then try again.",
    ),
    (
        ("unable to open", "readonly database"),
        DatabaseUnusable,
        "{file} cannot be opened for writing ({reason}). Check that its folder exists and is yours.",
    ),
    (
        ("no such module: fts5",),
        DatabaseUnusable,
        "This Python's SQLite has no full-text search (FTS5). Use a Python from python.org, conda or your "
        "distribution, or PostgreSQL.",
    ),
)


@contextmanager
def _clear_errors(url: URL) -> Iterator[None]:
    """Turn the database's errors that a user can do something about into Longleaf's."""
    try:
        yield
    except DBAPIError as error:
        clear = _explain(error, url)
        if clear is None:
            raise
        raise clear from error


def _explain(error: DBAPIError, url: URL) -> LongleafError | None:
    reason = str(error.orig)
    if url.get_backend_name() == "postgresql":
        if isinstance(error, OperationalError):
            return DatabaseUnusable(
                f"The PostgreSQL server of {url} cannot be used: {reason.strip()}. "
                "Check that it runs and that the setting `database` is right."
            )
        return None
    for signs, kind, message in _SQLITE_ERRORS:
        if any(sign in reason for sign in signs):
            return kind(message.format(file=url.database, reason=reason, seconds=BUSY_SECONDS))
    return None
