"""`Kept`: what the engine keeps of documents as files, as a library sees it: rows in SQL, files in its `kv` folder."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime
from pathlib import Path

from longleaf.engine.contract import Keeping, KeptFile
from longleaf.memory.kv_assets import KvAssets
from longleaf.memory.records import KvAssetRecord


class Kept:
    """Kept keys and values of a library's documents. The rows say what there is; the engine's files say whether it
    still is, as it removes those used longest ago by itself."""

    def __init__(self, keeping: Keeping, rows: KvAssets) -> None:
        self.keeping = keeping
        self._folder = keeping.folder
        self._rows = rows

    def opened(self, document_id: str, model: str, kept: KeptFile, found: bool) -> None:
        """Note what is kept of a document; `found` says that it was there already, and counts as a hit."""
        now = datetime.now(UTC)
        known = any(row.name == kept.name for row in self._rows.list(document_id))
        if not (found and known):
            row = KvAssetRecord(
                kept.name, model, kept.fingerprint, document_id, kept.tokens, kept.bytes, kept.path, 0, now, now
            )
            self._rows.keep(row)
        if found:
            self._rows.hit(kept.name, now)

    def holds(self, document_id: str, model: str) -> bool:
        """Whether something is kept of a document for a model."""
        return any(row.model == model for row in self.list(document_id))

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
