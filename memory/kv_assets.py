"""`KvAssets`: the documents whose keys and values are kept, where, and how often they were of use."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, select, update

from longleaf.memory.database import Database
from longleaf.memory.records import KvAssetRecord
from longleaf.memory.tables import KvAsset


class KvAssets:
    """Rows of kept keys and values. The files are the engine's; a row without its file is of no use and is dropped."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, asset: KvAssetRecord) -> None:
        """Note what was written. Kept again, its hits and the time it was made stay."""
        with self._database.session(write=True) as session:
            known = session.get(KvAsset, asset.name)
            if known is None:
                session.add(KvAsset(**asdict(asset)))
                return
            for name, value in asdict(asset).items():
                if name not in ("hits", "created_at"):
                    setattr(known, name, value)

    def hit(self, name: str, now: datetime) -> None:
        """Count one use; a name that is not there is passed over."""
        with self._database.session(write=True) as session:
            used = update(KvAsset).where(KvAsset.name == name)
            session.execute(used.values(hits=KvAsset.hits + 1, last_used=now))

    def list(self, document_id: str | None = None) -> builtins.list[KvAssetRecord]:
        """What is kept, used last first; of one document where it is named."""
        query = select(KvAsset).order_by(KvAsset.last_used.desc(), KvAsset.name)
        if document_id is not None:
            query = query.where(KvAsset.document_id == document_id)
        with self._database.session() as session:
            return [_record(row) for row in session.scalars(query)]

    def drop(self, names: Sequence[str]) -> None:
        """Delete these rows; names that are not there are passed over."""
        with self._database.session(write=True) as session:
            for name in names:
                session.execute(delete(KvAsset).where(KvAsset.name == name))


def _record(row: KvAsset) -> KvAssetRecord:
    return KvAssetRecord(
        name=row.name,
        model=row.model,
        fingerprint=row.fingerprint,
        document_id=row.document_id,
        tokens=row.tokens,
        bytes=row.bytes,
        path=row.path,
        hits=row.hits,
        created_at=row.created_at,
        last_used=row.last_used,
    )
