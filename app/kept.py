"""`Kept`: what the engine keeps of documents as files, as a library sees it: rows in SQL, files in its `kv` folder."""

from __future__ import annotations

import builtins
from pathlib import Path

from longleaf.memory.kv_assets import KvAssets
from longleaf.memory.records import KvAssetRecord


class Kept:
    """Kept keys and values of a library's documents. The rows say what there is; the engine's files say whether it
    still is, as it removes those used longest ago by itself."""

    def __init__(self, folder: Path, rows: KvAssets) -> None:
        self._folder = folder
        self._rows = rows

    def list(self, document_id: str | None = None) -> builtins.list[KvAssetRecord]:
        """What is kept, used last first. Rows whose files are gone are deleted."""
        rows = self._rows.list(document_id)
        gone = [row.name for row in rows if not (self._folder / row.path).is_file()]
        if gone:
            self._rows.drop(gone)
        return [row for row in rows if row.name not in gone]

    def drop(self, document_id: str | None = None) -> builtins.list[KvAssetRecord]:
        """Forget what is kept of a document, or of all, with the files no other needs; returns what went.

        What another process has open goes when it is next tidied up.
        """
        rows = self.list(document_id)
        if rows:
            from longleaf.engine.pages.asset import AssetFolder

            files = AssetFolder(self._folder)
            for row in rows:
                files.drop(row.name)
            self._rows.drop([row.name for row in rows])
        return rows


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a folder, 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
