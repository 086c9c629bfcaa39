"""Rankings, their fusion, and search over a small real index."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.retrieval.search import at_ends, bm25, fuse, marginal_relevance, stemmed, terms

TOWNS = {
    name: f"The capital of {name} is {town}. It lies on the river {river}. The town was founded in {year}. "
    f"Its mayor is {mayor}. Trade in wool made {name} rich. The walls were built of brick.\n\n"
    for name, town, river, year, mayor in [
        ("Freedonia", "Zubrow", "Lutz", 1211, "Groucho"),
        ("Sylvania", "Trentin", "Mora", 1345, "Chico"),
        ("Ruritania", "Strelsau", "Ebb", 1487, "Rudolf"),
        ("Grenfell", "Mountjoy", "Otter", 1502, "Gloriana"),
    ]
}


@pytest.fixture
def towns(stack, parse_text):
    for name, characters in TOWNS.items():
        stack.index.add(parse_text(characters), f"{name}.txt")
    return stack


def ids(stack):
    return {record.source.removesuffix(".txt"): record.id for record in stack.documents.list()}


@pytest.mark.parametrize(
    ("name", "town"), [("Freedonia", "Zubrow"), ("Ruritania", "Strelsau"), ("Grenfell", "Mountjoy")]
)
def test_the_best_sentence_answers(towns, name, town):
    hits = towns.search().find(f"What is the capital of {name}?")

    best = hits.sentences[0]
    assert towns.shelf.text(best.document_id).slice(best.span) == f"The capital of {name} is {town}."
    assert hits.passages[0].document_id == ids(towns)[name]
    assert best.similarity > 0.5
    assert best.coverage > 0.5


def test_hits_are_sorted_and_bounded(towns):
    hits = towns.search(passages=3).find("Which town lies on the river?")

    assert len(hits.passages) == 3
    for ranking in (hits.passages, hits.sentences):
        assert [hit.score for hit in ranking] == sorted((hit.score for hit in ranking), reverse=True)
    assert len({hit.chunk_id for hit in hits.passages}) == 3


def test_search_keeps_to_the_chosen_documents(towns):
    chosen = [ids(towns)["Sylvania"], ids(towns)["Grenfell"]]
    hits = towns.search().find("What is the capital of Freedonia?", chosen)

    assert hits.passages
    assert {hit.document_id for hit in (*hits.passages, *hits.sentences)} <= set(chosen)


def test_a_search_of_nothing_finds_nothing(stack):
    hits = stack.search().find("Is anyone there?")
    assert (hits.passages, hits.sentences) == ((), ())


@pytest.mark.parametrize("question", ["???", "", "NEAR(", '"', "AND OR NOT *", "a" * 5000, "\0", "漢字"])
def test_a_question_is_never_a_query_language(towns, question):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = towns.search().find(question)
    assert all(np.isfinite(hit.score) for hit in (*hits.passages, *hits.sentences))


def test_scores_keep_their_range_where_nothing_is_alike(towns):
    for question in ("xylophone quartz", "jazz", "zebra yacht vodka"):
        for sentence in towns.search().find(question).sentences:
            assert 0 <= sentence.score <= 1.5
            assert 0 <= sentence.coverage <= 1


def test_a_chunk_that_was_removed_meanwhile_is_passed_over(towns):
    freedonia = ids(towns)["Freedonia"]
    towns.documents.remove(freedonia)  # its vectors are still there

    hits = towns.search().find("What is the capital of Freedonia?")

    assert hits.passages
    assert freedonia not in {hit.document_id for hit in hits.passages}


def test_closeness_is_the_cosine_of_a_chunks_vector(towns):
    keys = [chunk.id for document in towns.documents.list() for chunk in towns.documents.chunks(document.id)]
    search = towns.search()
    closeness = search.closeness("What is the capital of Sylvania?", keys)

    assert list(closeness) == keys
    assert all(-1.001 <= value <= 1.001 for value in closeness.values())
    nearest = max(closeness, key=lambda key: closeness[key])
    assert towns.shelf.spans([nearest])[nearest][0] == ids(towns)["Sylvania"]
    assert search.closeness("anything", []) == {}


def test_turning_novelty_off_keeps_the_order_of_relevance(towns):
    plain = towns.search(passages=2, relevance=1.0).find("What is the capital of Freedonia?")
    assert plain.passages[0].document_id == ids(towns)["Freedonia"]


def test_fusion_adds_reciprocal_ranks():
    assert fuse([["a", "b"], ["b", "c"]], constant=60) == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
        ("c", pytest.approx(1 / 62)),
    ]
    assert fuse([[], []]) == []


RANKINGS = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=4)


@given(RANKINGS)
def test_fusion_keeps_every_key_once_and_ignores_the_order_of_rankings(rankings):
    fused = fuse(rankings)
    assert sorted(key for key, _ in fused) == sorted({key for ranking in rankings for key in ranking})
    assert [key for key, _ in fused] == [key for key, _ in fuse(rankings[::-1])]


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
def test_fusion_of_one_ranking_is_that_ranking(ranking):
    assert [key for key, _ in fuse([ranking])] == ranking


def test_novelty_passes_over_a_repeat():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    relevance = np.array([1.0, 0.9, 0.8])
    assert marginal_relevance(relevance, vectors, 2, 0.5) == [0, 2]
    assert marginal_relevance(relevance, vectors, 2, 1.0) == [0, 1]


@given(st.integers(0, 6), st.integers(0, 9), st.floats(0, 1))
def test_novelty_picks_as_many_as_there_are_and_none_twice(items, count, weight):
    generator = np.random.default_rng(items)
    vectors = generator.normal(size=(items, 3)).astype(np.float32)
    picked = marginal_relevance(generator.random(items), vectors, count, weight)
    assert len(picked) == len(set(picked)) == min(items, count)


def test_the_strongest_stand_at_the_ends():
    assert at_ends([1, 2, 3, 4, 5]) == [1, 3, 5, 4, 2]
    assert at_ends([1]) == [1]
    assert at_ends([]) == []


@given(st.lists(st.integers(), unique=True, min_size=2))
def test_at_ends_loses_nothing(ranked):
    placed = at_ends(ranked)
    assert sorted(placed) == sorted(ranked)
    assert (placed[0], placed[-1]) == (ranked[0], ranked[1])


def test_bm25_prefers_rare_words_short_documents_and_saturates():
    documents = [["king", "bridge"], ["king", "king", "king", "king"], ["king", "tax", "bread"], ["king"]]
    scores = bm25(["bridge", "king"], documents)
    assert scores.argmax() == 0
    assert scores[1] < 4 * scores[3]
    assert scores[3] > scores[2]
    assert bm25(["absent"], documents).tolist() == [0.0] * 4


def test_words_are_looked_up_once_and_by_their_stem():
    assert terms("The king, the KING's bridge?") == ["the", "king", "s", "bridge"]
    assert stemmed("Bridges crossing") == stemmed("bridge crosses")
