"""SQL and the vector index brought back in step, on both databases."""

import pytest

from longleaf.memory.consistency import Reconciled, reconcile
from longleaf.memory.vectors import Vectors

DIMENSIONS = 16


@pytest.fixture
def index(tmp_path):
    with Vectors.open(tmp_path / "chroma", "embedder", DIMENSIONS) as vectors:
        yield vectors


def put(index, sample):
    texts = [sample.text.id] * len(sample.chunks)
    index.add(sample.chunk_ids, sample.vectors, [sample.document.id] * len(sample.chunks), texts)


@pytest.fixture
def whole(documents, index, sample, add):
    """A document that is in both."""
    put(index, sample)
    add(sample)
    return sample


def test_nothing_wrong_compares_nothing(documents, index, whole, monkeypatch):
    monkeypatch.setattr(Vectors, "ids", lambda *_: pytest.fail("compared all ids"))

    assert reconcile(documents, index) == Reconciled()
    assert reconcile(documents, index).clean


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_add_that_stopped_before_its_commit(documents, index, whole, build, written):
    other = build(2)
    documents.begin(other.document.id, other.text.id)
    index.add(other.chunk_ids[:written], other.vectors[:written], ["d"] * written, [other.text.id] * written)

    assert reconcile(documents, index) == Reconciled(dropped=(other.text.id,))
    assert documents.unfinished() == []
    assert index.ids() == set(whole.chunk_ids)
    assert reconcile(documents, index).clean


def test_adding_a_known_text_again_that_stopped(documents, index, whole):
    documents.begin(whole.document.id, whole.text.id)
    index.add(whole.chunk_ids[:1], -whole.vectors[:1], [whole.document.id], [whole.text.id])

    result = reconcile(documents, index)

    # Its vectors can no longer be told from those of another chunking.
    assert result.missing == tuple(whole.chunk_ids)
    assert index.count() == 0
    put(index, whole)
    assert reconcile(documents, index).clean


def test_a_new_version_whose_old_vectors_stayed(documents, index, whole, build, add):
    newer = build(1, chunks=5, parser_version="2")
    put(index, newer)
    add(newer)

    assert reconcile(documents, index) == Reconciled(dropped=(whole.text.id,))
    assert index.ids() == set(newer.chunk_ids)


def test_a_removal_whose_vectors_stayed(documents, index, whole):
    documents.remove(whole.document.id)

    assert reconcile(documents, index) == Reconciled(dropped=(whole.text.id,))
    assert index.count() == 0


def test_vectors_and_chunks_that_no_journal_tells_of(documents, index, whole, build):
    stray = build(2, chunks=4)
    put(index, stray)
    index.remove([whole.chunk_ids[1]])

    assert reconcile(documents, index) == Reconciled((stray.text.id,), (whole.chunk_ids[1],))
    assert index.ids() == {whole.chunk_ids[0], whole.chunk_ids[2]}


def test_an_index_that_was_emptied(documents, index, whole):
    index.reset()

    assert reconcile(documents, index).missing == tuple(whole.chunk_ids)
