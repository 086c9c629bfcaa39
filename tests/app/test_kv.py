"""Documents whose keys and values are kept, from the command line: listed, dropped, and gone with their document."""

from datetime import UTC, datetime

import pytest
import torch

from longleaf import Library
from longleaf.engine.pages.asset import AssetFolder
from longleaf.engine.pages.fingerprint import Fingerprint
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore
from longleaf.memory.kv_assets import KvAssets
from longleaf.memory.records import KvAssetRecord

SETTINGS = {"embedder": "hashed-words", "model": {"name": "scripted:yes"}}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def keep(shell):
    """Keeps keys and values of some tokens for a document, as an engine that reads it would."""

    def keep(document, tokens):
        shape = PageShape(1, 1, 8, 16, torch.float32)
        store = PageStore(shape)
        sequence = store.new()
        numbers = torch.randn(1, len(tokens), 8)
        store.append(sequence, 0, numbers, numbers)
        mark = Fingerprint("weights", "tokenizer", "float32", "rope", "dense", 16)
        kept = AssetFolder(shell.library / "kv").save(store, sequence, tokens, mark)
        path = f"documents/{kept.name}.json"
        row = KvAssetRecord(kept.name, "tiny", mark.digest, document, kept.tokens, kept.bytes, path, 3, NOON, NOON)
        with Library.open(shell.library, overrides=SETTINGS) as library:
            KvAssets(library.database).keep(row)
        return kept

    return keep


def files(shell):
    return {path.stem for path in (shell.library / "kv").glob("segments/*/*.kv")}


def test_what_is_kept_is_listed(shell, added, keep):
    assert shell("kv", "list").out == "Nothing is kept.\n"
    assert not shell("kv", "list", "--json").json
    kept = keep(added, list(range(2000)))
    (row,) = shell("kv", "list", "--json").json
    assert (row["name"], row["document_id"], row["title"]) == (kept.name, added, "book.txt")
    assert (row["tokens"], row["hits"], row["bytes"]) == (2000, 3, kept.bytes)
    shown = shell("kv", "list").out
    for word in (added[:12], "tiny", "2,000", "2026-11-22"):
        assert word in shown


def test_dropping_a_document_leaves_what_another_shares(shell, added, keep):
    shell.write("other.txt", "Sylvania has a capital too.\n")
    other = shell("add", "other.txt", "--json").json[0]["id"]
    mine = keep(added, list(range(2000)))
    theirs = keep(other, [*range(1500), 7])
    assert len(files(shell)) == 3  # the first segment is of both
    assert "dropped 1" in shell("kv", "drop", added[:10]).out
    assert files(shell) == set(theirs.keys)
    assert [row["document_id"] for row in shell("kv", "list", "--json").json] == [other]
    assert files(shell) & set(mine.keys) == {mine.keys[0]}
    assert "dropped 1" in shell("kv", "drop", "--all").out
    assert not files(shell)


def test_a_removed_document_takes_what_is_kept_with_it(shell, added, keep):
    keep(added, list(range(100)))
    assert shell("remove", added).code == 0
    assert not files(shell)
    assert not shell("kv", "list", "--json").json


def test_what_the_engine_removed_is_no_longer_listed(shell, added, keep):
    keep(added, list(range(100)))
    AssetFolder(shell.library / "kv").prune(0)
    assert not shell("kv", "list", "--json").json


def test_dropping_needs_to_know_what(shell, added):
    assert shell("kv", "drop").code == 2
    assert shell("kv", "drop", added, "--all").code == 2
    missing = shell("kv", "drop", "ffff")
    assert (missing.code, "longleaf list" in missing.err) == (1, True)


def test_doctor_tells_the_size(shell, added, keep):
    kept = keep(added, list(range(20_000)))
    (check,) = [check for check in shell("doctor", "--json").json if check["what"] == "kept documents"]
    assert check["detail"].startswith(f"{kept.bytes / 1e6:,.0f} MB in ")
