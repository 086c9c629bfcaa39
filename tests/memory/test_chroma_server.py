"""The vector index on a Chroma server, as the library uses it by URL."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from longleaf.memory.consistency import reconcile
from longleaf.memory.errors import DatabaseUnusable, IndexStale
from longleaf.memory.vectors import Vectors

DIMENSIONS = 16
STARTS_WITHIN = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    beside = Path(sys.executable).with_name("chroma")
    command = str(beside) if beside.exists() else shutil.which("chroma")
    if command is None:
        pytest.skip("the command `chroma` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    arguments = [command, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        yield until_it_answers(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(30)


def until_it_answers(url, process):
    end = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            Vectors.open(url, "probe", DIMENSIONS, rebuild=True).close()
            return url
        except DatabaseUnusable:
            assert process.poll() is None, "the Chroma server ended"
            assert time.monotonic() < end, "the Chroma server does not answer"
            time.sleep(0.2)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_library_with_a_chroma_server(server, documents, add, build):
    with Vectors.open(server, "embedder", DIMENSIONS, rebuild=True) as index:
        for seed in (1, 2):
            made = build(seed, chunks=4)
            index.add(made.chunk_ids, made.vectors, [made.document.id] * 4, [made.text.id] * 4)
            add(made)
        assert reconcile(documents, index).clean
        assert index.search(made.vectors[2], None, 1)[0][0] == made.chunk_ids[2]
        assert index.search(made.vectors[2], [made.document.id], 1)[0][0] == made.chunk_ids[2]
        np.testing.assert_allclose(index.vectors(made.chunk_ids), made.vectors, rtol=1e-6)
        documents.remove(made.document.id)
        assert reconcile(documents, index).dropped == (made.text.id,)
        assert index.count() == 4
    with Vectors.open(server, "embedder", DIMENSIONS) as index:
        assert index.count() == 4
    with pytest.raises(IndexStale, match="embedder"):
        Vectors.open(server, "another", DIMENSIONS)
