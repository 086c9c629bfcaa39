"""The vector index, embedded."""

import logging
import shutil

import numpy as np
import pytest

from longleaf.memory.errors import DatabaseUnusable, IndexStale
from longleaf.memory.vectors import EXACT_UP_TO, Vectors

DIMENSIONS = 16


def opened(folder, fingerprint="embedder-1", dimensions=DIMENSIONS, **options):
    return Vectors.open(folder, fingerprint, dimensions, **options)


@pytest.fixture
def index(tmp_path):
    with opened(tmp_path / "chroma") as vectors:
        yield vectors


def clustered(count, dimensions=64, seed=0):
    """Unit vectors, 100 around each centre in turn: grouped, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count // 100, dimensions))
    rows = np.repeat(centres, 100, axis=0) + 0.9 * random.normal(size=(count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put(index, sample):
    texts = [sample.text.id] * len(sample.chunks)
    index.add(sample.chunk_ids, sample.vectors, [sample.document.id] * len(sample.chunks), texts)


def test_the_nearest_comes_first_with_its_cosine(index, sample):
    put(index, sample)
    query = sample.vectors[1] * 3

    for within in (None, [sample.document.id]):
        results = index.search(query, within, 3)
        assert results[0][0] == sample.chunk_ids[1]
        assert results[0][1] == pytest.approx(1.0, abs=1e-5)
        rows = sample.vectors / np.linalg.norm(sample.vectors, axis=1, keepdims=True)
        cosines = sorted(rows @ query / np.linalg.norm(query), reverse=True)
        assert [score for _, score in results] == pytest.approx(cosines, abs=1e-5)


def test_vectors_come_back_in_the_order_asked(index, sample):
    put(index, sample)
    asked = [sample.chunk_ids[2], sample.chunk_ids[0], sample.chunk_ids[2]]

    got = index.vectors(asked)

    assert got.dtype == np.float32
    np.testing.assert_allclose(got, sample.vectors[[2, 0, 2]], rtol=1e-6)
    assert index.vectors([]).shape == (0, DIMENSIONS)
    with pytest.raises(IndexStale, match="longleaf index --rebuild"):
        index.vectors(["no such chunk"])


def test_ids_count_and_removal(index, build):
    one, two = build(1), build(2, chunks=4)
    put(index, one)
    put(index, two)
    assert (index.count(), index.ids()) == (7, {*one.chunk_ids, *two.chunk_ids})
    assert index.ids(two.document.id) == set(two.chunk_ids)

    index.remove_text(one.text.id)
    index.remove_text("no such text")
    index.remove([two.chunk_ids[0], "no such chunk"])
    index.remove([])
    assert index.ids() == set(two.chunk_ids[1:])


def test_adding_again_replaces(index, sample):
    put(index, sample)
    index.add(sample.chunk_ids, -sample.vectors, ["other"] * 3, ["t2"] * 3)

    assert index.count() == 3
    np.testing.assert_allclose(index.vectors(sample.chunk_ids), -sample.vectors, rtol=1e-6)
    assert index.ids("other") == set(sample.chunk_ids)


def test_empty_searches(index, sample):
    query = sample.vectors[0]
    assert index.search(query, None, 5) == index.search(query, ["x"], 5) == []
    put(index, sample)
    assert index.search(query, [], 5) == index.search(query, ["x"], 5) == index.search(query, None, 0) == []
    assert len(index.search(query, None, 50)) == 3


def test_wrong_vectors_are_refused(index, sample):
    ids, texts = sample.chunk_ids, ["t"] * 3
    with pytest.raises(ValueError, match="vectors are"):
        index.add(ids, sample.vectors[:, :4], texts, texts)
    with pytest.raises(ValueError, match="vectors are"):
        index.add(ids[:2], sample.vectors, texts, texts)
    with pytest.raises(ValueError, match="not finite"):
        index.add(ids, sample.vectors * np.nan, texts, texts)
    with pytest.raises(ValueError, match="documents"):
        index.add(ids, sample.vectors, texts[:1], texts)
    with pytest.raises(ValueError, match="dimensions"):
        index.search(np.ones(4, dtype=np.float32), None, 1)
    assert index.count() == 0


def test_a_zero_vector_is_like_nothing(index, sample):
    index.add(["t:000000"], np.zeros((1, DIMENSIONS), dtype=np.float32), ["d"], ["t"])

    assert index.search(sample.vectors[0], ["d"], 1) == [("t:000000", 0.0)]


def test_it_is_there_after_closing(tmp_path, sample):
    with opened(tmp_path / "chroma") as index:
        put(index, sample)
        index.close()
    with opened(tmp_path / "chroma") as index:
        assert index.ids() == set(sample.chunk_ids)
        assert index.search(sample.vectors[0], None, 1)[0][0] == sample.chunk_ids[0]


@pytest.mark.parametrize("changed", [{"fingerprint": "embedder-2"}, {"dimensions": 8}])
def test_another_embedder_is_refused_until_rebuilt(tmp_path, sample, changed):
    with opened(tmp_path / "chroma") as index:
        put(index, sample)
    with pytest.raises(IndexStale, match="longleaf index --rebuild") as raised:
        opened(tmp_path / "chroma", **changed)
    assert "embedder-1" in str(raised.value)
    with opened(tmp_path / "chroma") as index:
        assert index.count() == 3

    with opened(tmp_path / "chroma", **changed, rebuild=True) as index:
        assert index.count() == 0
    with pytest.raises(IndexStale):
        opened(tmp_path / "chroma")


def test_rebuilding_for_the_same_embedder_keeps_the_vectors(tmp_path, sample):
    with opened(tmp_path / "chroma") as index:
        put(index, sample)
    with opened(tmp_path / "chroma", rebuild=True) as index:
        assert index.count() == 3
        index.reset()
        assert index.count() == 0
        put(index, sample)
        assert index.count() == 3


def test_more_than_one_batch(index):
    count = index._batch + 5
    rows = np.random.default_rng(0).normal(size=(count, DIMENSIONS)).astype(np.float32)
    index.add([f"t:{n:06d}" for n in range(count)], rows, ["d"] * count, ["t"] * count)

    assert index.count() == count
    assert len(index.vectors([f"t:{n:06d}" for n in range(count)])) == count
    index.remove_text("t")
    assert index.count() == 0


def test_recall_with_and_without_a_filter(tmp_path):
    count, per_document = 6000, 200
    rows = clustered(count)
    ids = [f"t:{n:06d}" for n in range(count)]
    documents = [f"d{n // per_document}" for n in range(count)]
    queries = clustered(count, seed=0)[::300] + 0.05
    with opened(tmp_path / "chroma", dimensions=64) as index:
        index.add(ids, rows, documents, documents)
        few = [f"d{n}" for n in range(EXACT_UP_TO // per_document)]
        many = [f"d{n}" for n in range(EXACT_UP_TO // per_document + 5)]
        found = [[index.search(query, within, 10) for query in queries] for within in (None, few, many)]

    def recall(place, within):
        allowed = np.array([within is None or document in within for document in documents])
        shares = []
        for query, results in zip(queries, found[place], strict=True):
            best = np.argsort(-np.where(allowed, rows @ query, -np.inf))[:10]
            shares.append(len({ids[n] for n in best} & {chunk for chunk, _ in results}) / 10)
        return float(np.mean(shares))

    assert recall(0, None) >= 0.97
    assert recall(1, few) == 1.0
    assert recall(2, many) >= 0.97


def test_hundreds_of_documents(index, build):
    for seed in range(3):
        put(index, build(seed))
    within = [*(f"{n:064x}" for n in range(700)), build(2).document.id]

    assert {chunk for chunk, _ in index.search(build(2).vectors[0], within, 10)} == set(build(2).chunk_ids)


def test_it_is_quiet(tmp_path, sample, caplog, capfd):
    with caplog.at_level(logging.INFO), opened(tmp_path / "chroma") as index:
        put(index, sample)
        index.search(sample.vectors[0], None, 2)
        index.add(sample.chunk_ids, sample.vectors, ["d"] * 3, ["t"] * 3)

    assert [record for record in caplog.records if record.name.startswith("chromadb")] == []
    assert capfd.readouterr() == ("", "")


def test_a_server_that_does_not_answer():
    with pytest.raises(DatabaseUnusable, match="setting `vectors`"):
        opened("http://127.0.0.1:1")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An index large enough that Chroma has written HNSW's files, as a killed process leaves it."""
    folder = tmp_path_factory.mktemp("written") / "chroma"
    rows = np.random.default_rng(0).normal(size=(1500, DIMENSIONS)).astype(np.float32)
    with opened(folder) as index:
        for start in range(0, 1500, 500):
            ids = [f"t:{n:06d}" for n in range(start, start + 500)]
            index.add(ids, rows[start : start + 500], ["d"] * 500, ["t"] * 500)
    (folder / "longleaf.open").write_text("1")
    return folder


@pytest.mark.parametrize("part", ["header.bin", "data_level0.bin", "index_metadata.pickle", "length.bin"])
def test_an_index_cut_short_is_emptied(tmp_path, written, sample, caplog, part):
    # A copy, because this process may still have the files mapped.
    copy = shutil.copytree(written, tmp_path / "chroma")
    (file,) = copy.glob(f"*/{part}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    with opened(copy) as index:
        assert index.count() == 0
        put(index, sample)
        assert index.search(sample.vectors[0], None, 1)[0][0] == sample.chunk_ids[0]
    assert "cut short" in caplog.text


def test_an_index_that_a_kill_left_whole_is_kept(tmp_path, written, caplog):
    copy = shutil.copytree(written, tmp_path / "chroma")

    with opened(copy) as index:
        assert index.count() == 1500
    assert caplog.text == ""
    assert not (copy / "longleaf.open").exists()


def test_a_damaged_index(tmp_path, sample):
    with opened(tmp_path / "chroma") as index:
        put(index, sample)
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"not a database at all" * 500)

    with pytest.raises(IndexStale, match="longleaf index --rebuild"):
        opened(tmp_path / "chroma")


def test_an_index_is_searched_as_wide_as_is_asked_now(tmp_path):
    row = np.ones((1, 4), dtype=np.float32)
    with Vectors.open(tmp_path, "embedder", 4, ef_search=50) as index:
        index.add(["a"], row, ["document"], ["text"])

    with Vectors.open(tmp_path, "embedder", 4, ef_search=400) as index:
        assert index._collection.configuration["hnsw"]["ef_search"] == 400
        assert [key for key, _ in index.search(row[0], None, 1)] == ["a"]
