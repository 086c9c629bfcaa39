"""What the tests of the memory room share: both databases, and documents made from a seed.

Every test that takes `database` runs on SQLite and on a real PostgreSQL.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.records import (
    ChunkRecord,
    DocumentRecord,
    HeadingRecord,
    PageRecord,
    TextRecord,
    chunk_id,
    text_version_id,
)
from longleaf.memory.runs import Runs
from longleaf.memory.words import Words

POSTGRESQL_BINARIES = "/usr/lib/postgresql/*/bin"
DIMENSIONS = 16


@dataclass(frozen=True)
class Sample:
    """A small document with everything that is stored of it. Each body has a word of its own."""

    document: DocumentRecord
    text: TextRecord
    chunks: list[ChunkRecord]
    bodies: list[str]
    vectors: NDArray[np.float32]

    @property
    def chunk_ids(self) -> list[str]:
        return [chunk.id for chunk in self.chunks]


def build_sample(seed: int, chunks: int = 3, parser_version: str = "1") -> Sample:
    document_id = hashlib.sha256(f"document {seed}".encode()).hexdigest()
    text_id = text_version_id(document_id, "plain", parser_version)
    bodies = [f"chapter word{seed}x{place} of document{seed} flows like rivers" for place in range(chunks)]
    characters = "\n".join(bodies)
    records, start = [], 0
    for place, body in enumerate(bodies):
        end = start + len(body)
        digest = hashlib.sha256(body.encode()).hexdigest()
        records.append(
            ChunkRecord(
                chunk_id(text_id, place),
                text_id,
                document_id,
                place,
                start,
                end,
                1,
                1,
                len(body.split()),
                digest,
            )
        )
        start = end + 1
    now = datetime(2026, 11, 22, 8, 0, seed % 60, tzinfo=UTC)
    pages = (
        PageRecord(1, 0, len(characters), None),
        PageRecord(2, len(characters), len(characters), "blank"),
    )
    document = DocumentRecord(
        id=document_id,
        title=f"Document {seed}",
        source=f"document-{seed}.txt",
        mime="text/plain",
        bytes=len(characters),
        pages=2,
        characters=len(characters),
        tokens=8 * chunks,
        chunks=chunks,
        unit="page",
        status="partial",
        errors=("page 2: blank",),
        text_id=text_id,
        added_at=now,
    )
    text = TextRecord(
        id=text_id,
        document_id=document_id,
        parser="plain",
        parser_version=parser_version,
        characters=characters,
        pages=pages,
        headings=(HeadingRecord(0, 7, 1),),
        unit="page",
        created_at=now,
    )
    vectors = np.random.default_rng(seed).normal(size=(chunks, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Sample(document, text, records, bodies, vectors)


def add_sample(documents: Documents, sample: Sample) -> None:
    documents.begin(sample.document.id, sample.text.id)
    documents.add(sample.document, sample.text, sample.chunks, sample.bodies)


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL, trusting everyone on this machine."""

    socket: Path
    port: int
    user: str

    def empty(self, name: str) -> str:
        """Make this database, or empty it, which is many times faster; returns its URL."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.socket}&port={self.port}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries (initdb, postgres) on this machine")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # Not under pytest's folders: those are closed to other users, and PostgreSQL refuses to run as root.
    home = Path(tempfile.mkdtemp(prefix="longleaf-postgresql-"))
    user = _other_user()
    if user is not None:
        shutil.chown(home, user)
    port = _free_port()
    data = home / "data"
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={home} -p {port} "
        "-c client_min_messages=warning -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    )

    def run(*command: str) -> None:
        subprocess.run(command, user=user, cwd=home, check=True, capture_output=True, timeout=60)

    try:
        run(f"{binaries}/initdb", "-D", f"{data}", "-U", "longleaf", "-A", "trust", "-E", "UTF8", "--no-sync")
        run(f"{binaries}/pg_ctl", "-D", f"{data}", "-l", f"{home}/log", "-w", "-o", options, "start")
        try:
            yield Server(home, port, "longleaf")
        finally:
            run(f"{binaries}/pg_ctl", "-D", f"{data}", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """An empty PostgreSQL database."""
    return postgresql.empty("library")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'longleaf.db'}"
    address: str = request.getfixturevalue("postgresql_url")
    return address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database.open(url) as opened:
        yield opened


@pytest.fixture
def documents(database: Database) -> Documents:
    return Documents(database)


@pytest.fixture
def words(database: Database) -> Words:
    return Words(database)


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


@pytest.fixture
def sample() -> Sample:
    return build_sample(1)


@pytest.fixture
def build() -> Callable[..., Sample]:
    return build_sample


@pytest.fixture
def add(documents: Documents) -> Callable[[Sample], None]:
    return partial(add_sample, documents)


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/").glob(POSTGRESQL_BINARIES.lstrip("/")))
    return folders[-1] if folders else None


def _other_user() -> str | None:
    return "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
