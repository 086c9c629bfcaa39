"""The writer lock and the library's folder."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from longleaf.memory.errors import LibraryBusy, LibraryMissing
from longleaf.memory.folder import LibraryFolder
from longleaf.memory.lock import WriterLock

HOLD = """
import sys
from longleaf.memory.folder import LibraryFolder
from longleaf.memory.lock import WriterLock
with WriterLock(LibraryFolder(sys.argv[1])):
    sys.stdout.write("held\\n"); sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return LibraryFolder(tmp_path / "library").create()


@pytest.fixture
def holder(folder):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    with suppress(BrokenPipeError):
        process.communicate()


def test_a_second_process_is_told_at_once_who_holds_it(folder, holder):
    with pytest.raises(LibraryBusy) as raised, WriterLock(folder):
        pass

    message = str(raised.value)
    assert f"process {holder.pid}" in message
    assert str(folder.path) in message
    assert "-c" in message
    assert "longleaf list" in message


def test_a_killed_holder_frees_it(folder, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert folder.holder_file.exists()

    with WriterLock(folder) as lock:
        assert lock.held
        assert str(os.getpid()) in folder.holder_file.read_text()


def test_an_ended_holder_frees_it(folder, holder):
    holder.communicate("")

    with WriterLock(folder):
        pass
    assert not folder.holder_file.exists()


def test_it_can_be_taken_again(folder):
    lock = WriterLock(folder)
    for _ in range(3):
        with lock:
            assert lock.held
    assert not lock.held
    lock.release()


def test_another_lock_of_the_same_process_is_refused(folder):
    with WriterLock(folder) as lock:
        with pytest.raises(LibraryBusy), WriterLock(folder):
            pass
        with pytest.raises(RuntimeError):
            lock.acquire()
        assert lock.held


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', "\x00"])
def test_a_damaged_holder_file_only_costs_the_name(folder, holder, content):
    folder.holder_file.write_text(content)

    with pytest.raises(LibraryBusy, match="another process"), WriterLock(folder):
        pass


def test_a_holder_file_without_a_lock_does_not_block(folder):
    folder.holder_file.write_text('{"pid": 1, "host": "h", "command": "c", "since": "s"}')

    with WriterLock(folder):
        pass


def test_the_folder_and_its_parts(tmp_path):
    folder = LibraryFolder(tmp_path / "a" / "b")
    assert not folder.exists()
    with pytest.raises(LibraryMissing, match="longleaf add"):
        folder.require()

    folder.create().create()
    parts = (
        folder.database_file,
        folder.chroma,
        folder.kv,
        folder.models,
        folder.settings_file,
        folder.lock_file,
    )
    assert all(part.is_relative_to(folder.path) for part in parts)
    assert folder.chroma.is_dir()
    assert not folder.exists()

    folder.settings_file.write_text("")
    assert folder.exists()
    assert folder.require() == folder == LibraryFolder(str(folder.path) + "/../b")


def test_paths_stay_in_the_folder(folder, tmp_path):
    assert folder.inside("kv", "x.bin") == folder.kv / "x.bin"
    (folder.kv / "link").symlink_to(tmp_path)
    for parts in (("..",), ("kv", "..", "..", "x"), (str(tmp_path),), ("kv", "link", "x")):
        with pytest.raises(ValueError, match="leads out"):
            folder.inside(*parts)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "library").write_text("")
    with pytest.raises(LibraryMissing, match="in the way"):
        LibraryFolder(tmp_path / "library").create()
    with pytest.raises(LibraryMissing, match="in the way"):
        LibraryFolder(tmp_path / "library" / "deeper").create()
