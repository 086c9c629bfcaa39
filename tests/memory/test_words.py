"""Full-text search, on both databases."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from longleaf.memory.database import Database
from longleaf.memory.documents import Documents
from longleaf.memory.words import Words

OPERATORS = [
    '"',
    "'",
    "*",
    "(",
    ")",
    "^",
    ":",
    "-",
    "+",
    "&",
    "|",
    "!",
    "<->",
    "\\",
    "\0",
    "AND",
    "OR",
    "NOT",
    "NEAR",
]


def put(documents, build, bodies):
    """A document whose chunks have these bodies; returns their ids."""
    made = build(1, chunks=len(bodies))
    documents.add(made.document, made.text, made.chunks, bodies)
    return made.chunk_ids


def found(words, *terms, within=None, limit=10):
    return [chunk for chunk, _ in words.search(terms, within, limit)]


def test_stems_case_and_accents(documents, build, words):
    ids = put(documents, build, ["She RUNS a café", "nothing here", "İstanbul naïve Über"])

    assert found(words, "running") == [ids[0]]
    assert found(words, "cafe") == found(words, "CAFÉ") == [ids[0]]
    assert found(words, "naive") == found(words, "uber") == [ids[2]]


def test_a_rare_word_counts_more_than_a_common_one(documents, build, words):
    ids = put(documents, build, ["ship ship sea"] * 8 + ["ship harpoon"])

    assert found(words, "ship", "harpoon")[0] == ids[8]


def test_more_terms_repeats_and_shortness_raise_the_score(documents, build, words):
    filler = "gravel " * 30
    bodies = ["whale", f"whale {filler}", f"whale whale whale {filler}", "whale boat", *["other"] * 9]
    ids = put(documents, build, bodies)
    order = found(words, "whale", "boat")

    assert order[0] == ids[3]
    assert order.index(ids[0]) < order.index(ids[1])
    assert order.index(ids[2]) < order.index(ids[1])


def test_scores_fall_and_are_positive(documents, build, words):
    put(documents, build, ["tide", "tide tide moon", "moon", "sand"])
    scores = [score for _, score in words.search(["tide", "moon"], None, 10)]

    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert min(scores) > 0


def test_equal_scores_come_in_the_order_of_ids(documents, build, words):
    ids = put(documents, build, ["tide"] * 5 + ["sand"] * 9)

    assert found(words, "tide") == sorted(ids[:5])


def test_limit_and_empty_questions(documents, build, words):
    put(documents, build, ["tide"] * 5)

    assert len(found(words, "tide", limit=2)) == 2
    assert found(words, "tide", limit=0) == []
    assert found(words) == found(words, "") == found(words, "  ") == found(words, "?!") == []
    assert found(words, "tide", within=[]) == []


def test_only_in_the_documents_asked_for(documents, build, add, words):
    for seed in range(4):
        add(build(seed))
    one = build(2)
    many = [*(f"{n:064x}" for n in range(40_000)), one.document.id]

    assert set(found(words, "rivers", within=[one.document.id])) == set(one.chunk_ids)
    assert set(found(words, "rivers", within=many)) == set(one.chunk_ids)
    assert found(words, "rivers", within=["' OR 1=1 --"]) == []


@pytest.mark.parametrize(
    "term", ["state-of-the-art", "O'Brien", "a.b@example.org", "C++", "$1,234.56", "https://x.org/a?b=c"]
)
def test_terms_with_marks_find_their_words(documents, build, words, term):
    ids = put(documents, build, [f"look: {term}.", "none of it"])

    assert found(words, term)[:1] == [ids[0]]


def test_operators_are_words(documents, build, words):
    ids = put(documents, build, ["salt pepper", "nothing"])

    for operator in OPERATORS:
        assert found(words, operator, "salt") == [ids[0]], operator
        assert found(words, f"salt{operator}") in ([ids[0]], []), operator


def test_thousands_of_terms(documents, build, words):
    ids = put(documents, build, ["needle", "nothing"])

    assert found(words, *(f"term{n}" for n in range(3000)), "needle") == [ids[0]]


def test_a_chunk_of_odd_characters_is_indexed(documents, build, words):
    ids = put(documents, build, ["a\0b \udfff needle", "", "x" * 5000, "\u202e\ufeff"])

    assert found(words, "needle") == [ids[0]]


@pytest.fixture(scope="module")
def sqlite_words(tmp_path_factory):
    with Database.open(tmp_path_factory.mktemp("words") / "longleaf.db") as database:
        yield Words(database)


@pytest.fixture(scope="module")
def postgresql_words(postgresql):
    with Database.open(postgresql.empty("words_fuzz")) as database:
        yield Words(database)


TERMS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.text(st.characters(codec=None), max_size=10),
        st.lists(st.sampled_from([*OPERATORS, "salt", " ", "{", "}", ";", "--", "%", "é"]), max_size=6).map("".join),
    ),
    max_size=6,
)


def check_fuzz(words, build, terms):
    documents = Documents(words._database)
    made = build(1, chunks=2)
    if documents.find(made.document.id) is None:
        documents.add(made.document, made.text, made.chunks, ["salt pepper", "nothing at all"])

    results = words.search(terms, None, 5)

    assert {chunk for chunk, _ in results} <= set(made.chunk_ids)
    with words._database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM words")) == 2
    assert words.search([*terms, "pepper"], [made.document.id], 5)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(terms=TERMS)
def test_any_terms_are_safe_on_sqlite(sqlite_words, build, terms):
    check_fuzz(sqlite_words, build, terms)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(terms=TERMS)
def test_any_terms_are_safe_on_postgresql(postgresql_words, build, terms):
    check_fuzz(postgresql_words, build, terms)
