"""`Archive`: entries of a zip file (DOCX, EPUB), read under limits and never written anywhere."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from types import TracebackType
from typing import Final, Self

from longleaf.retrieval.parsers.job import Job

PIECE: Final = 2**20
RATIO_FROM: Final = 16 * 2**20


class Archive:
    """A context manager. All methods raise `DocumentError` on damage, encryption or a passed limit.

    Sizes are counted while unpacking; what the archive says of itself is not believed.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._unpacked = 0
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(job.data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self._damaged(str(error)) from error
        self.names = frozenset(self._zip.namelist())
        if len(self._zip.infolist()) > job.limits.entries:
            raise job.refuse(
                f"its archive has more than the {job.limits.entries} entries allowed",
                "If you trust the file, raise Limits.entries.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """The bytes of the entry `name`."""
        try:
            entry = self._zip.getinfo(name)
        except KeyError:
            raise self._damaged(f"it has no entry {name}") from None
        if entry.flag_bits & 0x1:
            raise self._job.refuse(
                "it is encrypted; reading it needs its password",
                "Save a copy without a password and read that.",
            )
        pieces: list[bytes] = []
        try:
            with self._zip.open(entry) as stream:
                while piece := stream.read(PIECE):
                    self._count(len(piece))
                    pieces.append(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise self._damaged(f"entry {name}: {error}") from error
        return b"".join(pieces)

    def _count(self, size: int) -> None:
        self._unpacked += size
        limits = self._job.limits
        ratio = self._unpacked / len(self._job.data)
        if self._unpacked > limits.unpacked_bytes:
            reason = f"it unpacks to more than the {limits.unpacked_bytes} bytes allowed"
        elif self._unpacked > RATIO_FROM and ratio > limits.unpacked_ratio:
            reason = f"it unpacks to more than {limits.unpacked_ratio:g} times its size, as a zip bomb does"
        else:
            return
        raise self._job.refuse(reason, "If you trust it, raise Limits.unpacked_bytes or Limits.unpacked_ratio.")

    def _damaged(self, detail: str) -> Exception:
        return self._job.refuse(f"its archive is damaged or truncated ({detail})", "Get a whole copy of the file.")


def within(base: str, target: str) -> str:
    """The entry that `target`, a relative link found in entry `base`, names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), target)).lstrip("/")
