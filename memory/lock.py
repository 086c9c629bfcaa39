"""`WriterLock`: one process writes to a library at a time."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from longleaf.memory.errors import LibraryBusy
from longleaf.memory.folder import LibraryFolder

logger = logging.getLogger(__name__)

COMMAND_CHARACTERS = 200
HOLDER_KEYS = frozenset({"pid", "host", "command", "since"})


class WriterLock:
    """Held while a process owns the library's embedded index and writes; `with WriterLock(folder): ...`.

    The lock is the operating system's, so it ends with its holder, even a killed one. A file beside it says
    who holds it; that file is for messages only and may outlive a killed holder. Entering raises
    `LibraryBusy` at once where another process, or another lock of this one, holds it. One lock may not be
    entered twice.
    """

    def __init__(self, folder: LibraryFolder) -> None:
        self._folder = folder
        # The holder may be let go from another thread than took it (a page's session, a server's shutdown).
        self._lock = FileLock(folder.lock_file, timeout=0, thread_local=False)

    def __enter__(self) -> WriterLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def held(self) -> bool:
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lock. Raises `LibraryBusy` where it is taken."""
        if self.held:
            raise RuntimeError(f"the lock on {self._folder.path} is already held by this object")
        self._folder.create()
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise LibraryBusy(self._busy_message()) from error
        self._write_holder()

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if not self.held:
            return
        with suppress(FileNotFoundError):
            self._folder.holder_file.unlink()
        self._lock.release()

    def _write_holder(self) -> None:
        holder = {
            "pid": os.getpid(),
            "host": platform.node(),
            "command": " ".join(sys.argv)[:COMMAND_CHARACTERS] or sys.executable,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        fresh = self._folder.holder_file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(holder), encoding="utf-8")
        fresh.replace(self._folder.holder_file)

    def _read_holder(self) -> dict[str, Any]:
        try:
            holder = json.loads(self._folder.holder_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # Between taking the lock and writing the file, or between removing it and letting go.
            return {}
        return holder if isinstance(holder, dict) and HOLDER_KEYS.issubset(holder) else {}

    def _busy_message(self) -> str:
        holder = self._read_holder()
        who = "another process"
        if holder:
            who = "process {pid} on {host} (`{command}`, since {since})".format_map(holder)
        return (
            f"The library in {self._folder.path} is being written to by {who}. "
            "Wait until it is done or stop it, then try again; "
            "`longleaf list`, `show` and `runs` work meanwhile."
        )
