"""Adds documents in a process that is killed at random, then looks at what is left. Run by test_kill.

Each round forks a child that adds, kills it with SIGKILL after a random time or between two steps of an
add, and forks another child that opens the library as a user would. Forked, so that the imports are paid
once.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import chromadb  # noqa: F401 - paid once, before the forks
import numpy as np
from conftest import DIMENSIONS, Sample, build_sample

from longleaf.memory.consistency import reconcile
from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.folder import LibraryFolder
from longleaf.memory.lock import WriterLock
from longleaf.memory.marker import _READ_ALL, OpenMarker
from longleaf.memory.vectors import Vectors
from longleaf.memory.words import Words

CHUNKS = 40
STOPS = ("begin", "vectors", "add", "remove")


def sample_of(seed: int) -> Sample:
    # Every third is another version of the one before it, so that old texts are replaced too.
    return build_sample(seed - 1, CHUNKS + 5, "2") if seed % 3 == 2 else build_sample(seed, CHUNKS)


class Library:
    """A library as the application opens it."""

    def __init__(self, path: Path) -> None:
        self.folder = LibraryFolder(path)
        self.lock = WriterLock(self.folder)
        self.lock.acquire()
        self.database = Database.open(self.folder.database_file)
        self.documents = Documents(self.database)
        self.words = Words(self.database)
        self.vectors = Vectors.open(self.folder.chroma, "embedder", DIMENSIONS)


def add_forever(path: Path, first: int, stop: str | None, ready: int) -> None:
    """Add, replace and remove; die at `stop` of the fourth document, or when killed."""
    library = Library(path)
    reconcile(library.documents, library.vectors)
    os.write(ready, b"x")
    for number in range(10_000):
        at = stop if number == 3 else None
        made = sample_of(first + number)
        ids, count = made.chunk_ids, len(made.chunks)
        library.documents.begin(made.document.id, made.text.id)
        die_at(at, "begin")
        library.vectors.add(ids, made.vectors, [made.document.id] * count, [made.text.id] * count)
        die_at(at, "vectors")
        library.documents.add(made.document, made.text, made.chunks, made.bodies)
        die_at(at, "add")
        if number % 5 == 4:
            library.documents.remove(made.document.id)
            die_at(stop, "remove")
        for _, text_id in library.documents.unfinished():
            library.vectors.remove_text(text_id)
            library.documents.forget_unfinished(text_id)


def die_at(wanted: str | None, here: str) -> None:
    if wanted == here:
        os.kill(os.getpid(), signal.SIGKILL)


def check(path: Path) -> None:
    """Every document is whole or absent, and the index holds its chunks and no others."""
    library = Library(path)
    documents, vectors = library.documents, library.vectors
    result = reconcile(documents, vectors)
    assert documents.unfinished() == []
    if result.missing:
        # Chroma may be cut short while it writes HNSW's files, and is then empty.
        assert set(result.missing) == documents.chunk_ids(), f"some chunks lack vectors: {result.missing[:3]}"
        embed_all(library)
    assert vectors.ids() == documents.chunk_ids()
    assert reconcile(documents, vectors).clean
    for document in documents.list():
        seed = int(document.title.split()[1])
        version = documents.text(document.id).parser_version
        made = build_sample(seed, document.chunks, version)
        assert document == made.document
        assert documents.text(document.id) == made.text
        assert documents.chunks(document.id) == made.chunks
        np.testing.assert_allclose(vectors.vectors(made.chunk_ids), made.vectors, rtol=1e-5)
        last = made.chunk_ids[-1]
        assert library.words.search([f"word{seed}x{document.chunks - 1}"], None, 1)[0][0] == last
        assert vectors.search(made.vectors[-1], None, 1)[0][0] == last
        assert vectors.search(made.vectors[-1], [document.id], 1)[0][0] == last
    vectors.close()


def embed_all(library: Library) -> None:
    """What an application does with the chunks that `reconcile` names."""
    for document in library.documents.list():
        seed, version = int(document.title.split()[1]), library.documents.text(document.id).parser_version
        made = build_sample(seed, document.chunks, version)
        count = document.chunks
        library.vectors.add(made.chunk_ids, made.vectors, [document.id] * count, [made.text.id] * count)


def in_child(work, *arguments) -> int:
    """Fork a process that does this; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(*arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must end here, whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def readable_by_fork(marker: OpenMarker) -> bool:
    """`OpenMarker.readable` without a second of imports."""
    sys.argv[1] = str(marker.folder)
    _, status = os.waitpid(in_child(exec, _READ_ALL, {}), 0)
    return status == 0


def main(path: Path, rounds: int, seed: int) -> int:
    OpenMarker.readable = readable_by_fork
    chance = random.Random(seed)
    for number in range(rounds):
        stop = STOPS[number] if number < len(STOPS) else None
        reading, writing = os.pipe()
        pid = in_child(add_forever, path, number * 1000, stop, writing)
        os.close(writing)
        started = os.read(reading, 1)
        os.close(reading)
        if stop is None:
            time.sleep(chance.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not started or os.WTERMSIG(status) != signal.SIGKILL:
            sys.stderr.write(f"round {number} ended with {status} instead of being killed\n")
            return 1
        _, status = os.waitpid(in_child(check, path), 0)
        if status:
            sys.stderr.write(f"round {number} (stopped at {stop}) left a broken library\n")
            return 1
    with Database.open(LibraryFolder(path).database_file) as database:
        sys.stdout.write(str(len(Documents(database).list())))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
