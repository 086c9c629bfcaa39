"""`Lease`: files that a living process reads or is about to name, and that nobody may remove."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout


class Lease:
    """A hold on names under `folder`, until `release` or the end of the process, however it ends.

    It is a file with the names and a lock beside it. Take one, and look at others, while holding a lock on the folder.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = secrets.token_hex(8)
        self._process = os.getpid()
        self._file = folder / f"{self.id}.json"
        self._lock = FileLock(folder / f"{self.id}.lock", thread_local=False)
        self._lock.acquire(timeout=0)
        self._file.write_text(json.dumps(list(names)), encoding="utf-8")

    def release(self) -> None:
        """Let go."""
        self._file.unlink(missing_ok=True)
        self._lock.release()

    def __del__(self) -> None:
        if hasattr(self, "_lock") and self._process == os.getpid():  # not the copy that a fork makes
            self.release()


def living(folder: Path) -> dict[str, frozenset[str]]:
    """Names that leases under `folder` hold, by the lease's id. Leases of processes that ended are removed."""
    found: dict[str, frozenset[str]] = {}
    for path in folder.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held = path.with_suffix(".json")
            found[path.stem] = frozenset(json.loads(held.read_text(encoding="utf-8"))) if held.exists() else frozenset()
        else:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            lock.release()
    return found
