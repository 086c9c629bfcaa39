"""The record that marks a model folder as whole."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from longleaf.engine.catalog import Kind

FILE_NAME = "longleaf-model.json"
_OURS = re.compile(r"(?:^|\.)longleaf-[a-z]+\.json$")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a model: path inside the folder, size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored model is, where it came from, and the files that make it whole."""

    name: str
    kind: Kind
    source: str
    licence: str
    created: str
    files: tuple[FileRecord, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files)

    def fault(self, folder: Path) -> str | None:
        """What is wrong with `folder`, judged by presence and size of each file; None where it is whole."""
        for record in self.files:
            path = folder / record.path
            if not path.is_file():
                return f"{record.path} is missing"
            size = path.stat().st_size
            if size != record.size:
                return f"{record.path} has {size} bytes and should have {record.size}"
        return None


def describe(folder: Path, *, name: str, kind: Kind, source: str, licence: str) -> Manifest:
    """Hash every file under `folder` into a manifest."""
    # What is measured of a model may be measured anew at any time, so it is no part of what makes the model whole.
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _OURS.search(path.name))
    records = tuple(
        FileRecord(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths
    )
    return Manifest(name, kind, source, licence, datetime.now(UTC).isoformat(timespec="seconds"), records)


def write(manifest: Manifest, folder: Path) -> None:
    """Store the manifest in its folder."""
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    (folder / FILE_NAME).write_text(text, encoding="utf-8")


def read(folder: Path) -> Manifest | None:
    """The manifest of `folder`; None where there is none or it cannot be read as one."""
    try:
        data = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return Manifest(**{**data, "files": tuple(FileRecord(**record) for record in data["files"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
