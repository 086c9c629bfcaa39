"""Rows of kept keys and values, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from longleaf.memory.kv_assets import KvAssets
from longleaf.memory.records import KvAssetRecord

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def asset(number=0, **changes):
    name = f"{number:032x}-{1:032x}"
    made = KvAssetRecord(
        name=name,
        model="model",
        fingerprint=f"{1:032x}",
        document_id="d1",
        tokens=100_000,
        bytes=5_000_000_000,
        path=f"documents/{name}.json",
        hits=0,
        created_at=NOON,
        last_used=NOON + timedelta(hours=number),
    )
    return replace(made, **changes)


@pytest.fixture
def assets(database):
    return KvAssets(database)


def test_what_was_used_last_comes_first(assets):
    for number in (1, 3, 2):
        assets.keep(asset(number, document_id=None if number == 3 else "d1"))
    assert assets.list() == [asset(3, document_id=None), asset(2), asset(1)]
    assert assets.list("d1") == [asset(2), asset(1)]
    assert assets.list("d2") == []


def test_uses_are_counted_and_keeping_again_does_not_forget_them(assets):
    assets.keep(asset())
    for hours in (1, 2):
        assets.hit(asset().name, NOON + timedelta(hours=hours))
    assets.hit("another", NOON)
    used = replace(asset(), hits=2, last_used=NOON + timedelta(hours=2))
    assert assets.list() == [used]

    later = NOON + timedelta(days=1)
    assets.keep(asset(bytes=7, created_at=later, last_used=later))
    assert assets.list() == [replace(used, bytes=7, last_used=later)]


def test_dropped_rows_are_gone(assets):
    for number in range(3):
        assets.keep(asset(number))
    assets.drop([asset(0).name, asset(2).name, "another"])
    assert assets.list() == [asset(1)]
