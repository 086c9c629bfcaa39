"""`OpenMarker`: whether the last owner of an embedded Chroma closed it, and if not, whether it can be read.

Chroma writes HNSW's files in place. A process killed meanwhile leaves files that make the next call fail,
give back wrong vectors or crash the process that reads them; so after a kill another process reads the index
first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Replays what was written last, and reads every vector: all were written with length 1.
_READ_ALL = """
import sys
import chromadb
import numpy as np
from chromadb.config import Settings
client = chromadb.PersistentClient(path=sys.argv[1], settings=Settings(anonymized_telemetry=False))
for collection in client.list_collections():
    for start in range(0, collection.count(), 1000):
        rows = collection.get(include=["embeddings"], limit=1000, offset=start)["embeddings"]
        if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=0.001):
            sys.exit("a vector is not what was written")
        collection.query(query_embeddings=rows[:20], n_results=10)
"""


@dataclass(frozen=True, slots=True)
class OpenMarker:
    """A file beside Chroma's that is there while a process has the index open."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "longleaf.open"

    def left_over(self) -> bool:
        """Whether another process opened the index and never closed it."""
        try:
            return self.file.read_text(encoding="ascii") != str(os.getpid())
        except FileNotFoundError:
            return False

    def set(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(str(os.getpid()), encoding="ascii")

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)

    def readable(self) -> bool:
        """Whether a process of its own can read the whole index; two seconds, more for a large one."""
        command = [sys.executable, "-c", _READ_ALL, str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
