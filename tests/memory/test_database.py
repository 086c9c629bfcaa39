"""Opening a database: migrations, clear errors, readers beside a writer."""

import subprocess
import sys
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from longleaf.memory import migration
from longleaf.memory.database import Database, database_url
from longleaf.memory.documents import Documents
from longleaf.memory.errors import DatabaseUnusable, LibraryBusy, LibraryMissing
from longleaf.memory.migrations import HEAD
from longleaf.memory.tables import Table

OPEN = """
import sys
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
with Database.open(sys.argv[1]) as database:
    sys.stdout.write(str(len(Documents(database).list())))
"""


@pytest.fixture
def sqlite_file(tmp_path):
    return tmp_path / "longleaf.db"


def test_migrations_build_the_tables_from_nothing_and_run_once(url, sample):
    with Database.open(url) as database:
        Documents(database).add(sample.document, sample.text, sample.chunks, sample.bodies)
    for _ in range(2):
        with Database.open(url) as database:
            assert Documents(database).list() == [sample.document]
            with database.session() as session:
                assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == [HEAD]


def test_the_migrated_tables_are_those_of_the_code(database):
    with database.engine.connect() as connection:
        options = {"include_name": migration.in_metadata, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Table.metadata) == []


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", "longleaf.memory:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD
    names = [script.revision for script in scripts.walk_revisions()]
    # `migration` tells newer from older by comparing these as strings.
    assert names == sorted(names, reverse=True)
    assert all(len(name) == 4 for name in names)


def test_a_database_of_a_newer_longleaf_is_refused_and_left_alone(url):
    with Database.open(url) as database, database.session(write=True) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for read_only in (False, True):
        with pytest.raises(DatabaseUnusable, match="pip install -U longleaf"):
            Database.open(url, read_only=read_only)


def test_a_database_of_an_older_longleaf_is_not_migrated_by_a_reader(url):
    with Database.open(url) as database, database.session(write=True) as session:
        session.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(DatabaseUnusable, match="older Longleaf"):
        Database.open(url, read_only=True)


def test_many_may_open_a_new_database_at_once(url):
    errors, ready = [], threading.Barrier(6)

    def work():
        ready.wait()
        try:
            Database.open(url).close()
        except Exception as error:  # noqa: BLE001 - the thread must report whatever happened
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_many_processes_may_open_a_new_database_at_once(url):
    command = [sys.executable, "-c", OPEN, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    results = [(process.communicate(), process.returncode) for process in processes]
    assert [(out, code) for (out, _), code in results] == [("0", 0)] * 4, results


def test_readers_work_while_a_writer_writes(database, url, sample, build, add):
    add(sample)
    other = build(2)
    with database.session(write=True) as session:
        session.execute(text("UPDATE document SET title = 'changed'"))
        with Database.open(url, read_only=True) as reader:
            assert Documents(reader).list() == [sample.document]
            assert Documents(reader).text(sample.document.id) == sample.text
    add(other)
    assert Documents(database).get(sample.document.id).title == "changed"


def test_a_reader_in_another_process_works_while_a_writer_writes(database, url, sample, add):
    add(sample)
    with database.session(write=True) as session:
        session.execute(text("UPDATE document SET title = 'changed'"))
        done = subprocess.run([sys.executable, "-c", OPEN, url], capture_output=True, text=True, check=True)
        assert done.stdout == "1"


def test_a_read_only_database_cannot_be_written(database, url, sample):
    with Database.open(url, read_only=True) as reader, pytest.raises(Exception, match=r"read.?only"):
        Documents(reader).begin(sample.document.id, sample.text.id)
    assert Documents(database).unfinished() == []


def test_an_error_rolls_back(database):
    def fail():
        with database.session(write=True) as session:
            session.execute(text("INSERT INTO ingest VALUES ('t', 'd', :at)"), {"at": "2026-11-22 00:00:00"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert Documents(database).unfinished() == []


def test_a_second_writer_waits_then_is_told(sqlite_file, monkeypatch):
    monkeypatch.setattr("longleaf.memory.database.BUSY_SECONDS", 0.2)
    with (
        Database.open(sqlite_file) as database,
        Database.open(sqlite_file) as other,
        database.session(write=True),
        pytest.raises(LibraryBusy, match="stop it"),
        other.session(write=True),
    ):
        pass


def test_sqlite_is_set_up(sqlite_file):
    with Database.open(sqlite_file) as database, database.session() as session:
        values = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5000, "synchronous": 1}


def test_a_missing_database_is_not_made_by_a_reader(sqlite_file):
    with pytest.raises(LibraryMissing, match="longleaf add"):
        Database.open(sqlite_file, read_only=True)
    assert not sqlite_file.exists()


def test_a_file_that_is_no_database(sqlite_file):
    sqlite_file.write_bytes(b"%PDF-1.7 and so on, for longer than a header of SQLite" * 50)
    before = sqlite_file.read_bytes()
    with pytest.raises(DatabaseUnusable, match="not a database"):
        Database.open(sqlite_file)
    assert sqlite_file.read_bytes() == before


def test_a_damaged_database(sqlite_file, build):
    with Database.open(sqlite_file) as database:
        made = build(1, chunks=2000)
        Documents(database).add(made.document, made.text, made.chunks, made.bodies)
    content = bytearray(sqlite_file.read_bytes())
    content[4096 : len(content) - 4096] = b"\xff" * (len(content) - 8192)
    sqlite_file.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match="damaged"), Database.open(sqlite_file) as database:
        Documents(database).text(made.document.id)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        Database.open(tmp_path / "none" / "longleaf.db")


@pytest.mark.parametrize(
    "url", ["mysql://h/x", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql+asyncpg://h/x"]
)
def test_urls_of_other_databases_are_refused(url):
    with pytest.raises(DatabaseUnusable, match=r"postgresql://|sqlite:///"):
        Database.open(url)


def test_a_server_that_does_not_answer():
    with pytest.raises(DatabaseUnusable, match="cannot be used") as raised:
        Database.open("postgresql://ann:secret@127.0.0.1:1/x")
    assert "secret" not in str(raised.value)


def test_passwords_are_not_shown(sqlite_file):
    url = database_url("postgres://ann:secret@host/name")
    assert "secret" not in repr(url) + str(url)
    with Database.open(sqlite_file) as database:
        assert repr(database) == f"Database('sqlite:///{sqlite_file}')"
        assert database.url.database == str(sqlite_file)


def test_a_path_with_odd_characters(tmp_path, sample):
    folder = tmp_path / "a b%20?x=1#é;"
    folder.mkdir()
    with Database.open(folder / "longleaf.db") as database:
        Documents(database).add(sample.document, sample.text, sample.chunks, sample.bodies)
    with Database.open(folder / "longleaf.db", read_only=True) as database:
        assert Documents(database).list() == [sample.document]


def test_importing_the_room_is_cheap():
    code = "import sys, longleaf.memory; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "alembic", "chromadb", "langgraph", "numpy"} & set(done.stdout.split())


def test_every_public_name_is_there():
    import longleaf.memory

    assert all(getattr(longleaf.memory, name) is not None for name in longleaf.memory.__all__)
    with pytest.raises(AttributeError):
        longleaf.memory.nothing  # noqa: B018
