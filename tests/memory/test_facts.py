"""Facts: tied to checked spans, superseded and never overwritten, stale when their document changes, forgotten."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.memory.consistency import reconcile_facts
from longleaf.memory.database import Database
from longleaf.memory.errors import FactMissing, FactUnsupported, IndexStale
from longleaf.memory.facts import Facts
from longleaf.memory.records import FactRecord
from longleaf.memory.vectors import FACTS, Vectors

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def fact_of(sample, number=0, **changes):
    """A fact that rests on the `number`-th line of a sample document."""
    chunk = sample.chunks[number]
    values = {
        "id": f"{number:032x}",
        "scope": "document",
        "scope_id": sample.document.id,
        "text": f"Fact {number}.",
        "question": f"What is fact {number}?",
        "key": f"what is fact {number}",
        "words": ("fact", str(number)),
        "document_id": sample.document.id,
        "title": sample.document.title,
        "text_id": sample.text.id,
        "start": chunk.start,
        "end": chunk.end,
        "page": 1,
        "quote": sample.text.characters[chunk.start : chunk.end],
        "run_id": "run",
        "claim_ordinal": 0,
        "source": "model",
        "asked_at": NOON,
        "valid_from": NOON,
    }
    return FactRecord(**values | changes)


def users_word(text="I live in Zubrow.", **changes):
    values = {
        "id": "f" * 32,
        "scope": "user",
        "scope_id": "",
        "text": text,
        "question": "",
        "key": "",
        "words": ("live", "zubrow"),
        "document_id": None,
        "title": "",
        "text_id": None,
        "start": 0,
        "end": 0,
        "page": 0,
        "quote": "",
        "run_id": None,
        "claim_ordinal": 0,
        "source": "user",
        "asked_at": NOON,
        "valid_from": NOON,
    }
    return FactRecord(**values | changes)


@pytest.fixture
def facts(database):
    return Facts(database)


@pytest.fixture
def known(facts, sample, add):
    """A fact of a document that is there."""
    add(sample)
    return facts.add(fact_of(sample))


def test_a_fact_comes_back_as_it_was(facts, known, sample):
    assert facts.get(known.id) == facts.list()[0] == known
    assert facts.recall() == facts.recall([sample.document.id]) == [known]
    assert facts.recall(["another"]) == []
    assert not known.stale


@pytest.mark.parametrize(
    "change", [{"quote": "What nobody wrote."}, {"start": 1}, {"text_id": "0" * 32}, {"document_id": "0" * 64}]
)
def test_what_its_document_does_not_hold_is_refused(facts, known, sample, change):
    with pytest.raises(FactUnsupported, match="Ask again"):
        facts.add(replace(fact_of(sample, 1), **change))
    assert facts.list(superseded=True) == [known]


def test_the_same_answer_is_kept_once(facts, known, sample):
    assert facts.add(fact_of(sample, id="1" * 32, text=" fact  0 ")) == known
    assert facts.list(superseded=True) == [known]


def test_another_answer_takes_its_place_and_the_old_one_stays(facts, known, sample):
    later = NOON + timedelta(days=1)
    newer = facts.add(fact_of(sample, id="1" * 32, text="Fact 0 is another.", asked_at=later))

    assert facts.list() == facts.recall() == [newer]
    old = facts.get(known.id)
    assert (old.superseded_by, old.superseded_at, old.superseded) == (newer.id, later, True)
    assert replace(old, superseded_by=None, superseded_at=None) == known
    assert facts.list(superseded=True) == [newer, old]
    newest = facts.add(fact_of(sample, id="2" * 32, text="A third.", asked_at=later + timedelta(days=1)))
    assert [item.id for item in facts.history(newest.id)] == [newer.id, known.id]


def test_answers_to_other_questions_and_about_other_documents_stay(facts, known, sample, build, add):
    other = build(2)
    add(other)
    facts.add(fact_of(sample, 1, id="1" * 32, text="Another."))
    facts.add(fact_of(other, 0, id="2" * 32, text="Another."))
    assert len(facts.list()) == 3


def test_a_users_word_is_replaced_by_the_user_alone(facts, known, sample):
    mine = facts.add(users_word(key="what is fact 0", document_id=sample.document.id, text_id=sample.text.id))
    facts.add(fact_of(sample, id="1" * 32, text="Another."))
    assert not facts.get(mine.id).superseded

    corrected = facts.supersede(mine.id, users_word("I live in Trentin.", id="e" * 32))
    assert facts.get(mine.id).superseded_by == corrected.id
    with pytest.raises(FactMissing, match="superseded before"):
        facts.supersede(mine.id, users_word("Nowhere.", id="d" * 32))
    assert "d" * 32 not in facts.ids()


def test_a_removed_document_leaves_its_facts_stale_and_bringing_it_back_mends_them(
    facts, known, sample, documents, add
):
    documents.remove(sample.document.id)

    (stale,) = facts.recall()
    assert stale == replace(known, stale=True)
    assert stale.title == "Document 1"
    assert facts.get(known.id).stale

    add(sample)
    assert facts.recall() == [known]


def test_a_text_that_changed_leaves_stale_what_it_no_longer_holds(facts, sample, build, add):
    add(sample)
    kept, lost = facts.add(fact_of(sample, 0)), facts.add(fact_of(sample, 1))
    newer = build(1, parser_version="2")
    # As long as before, and different in its second line.
    characters = newer.text.characters.replace("word1x1", "WORD1x1")
    add(replace(newer, text=replace(newer.text, characters=characters)))

    assert {item.id: item.stale for item in facts.recall()} == {kept.id: False, lost.id: True}
    with pytest.raises(FactUnsupported):
        facts.add(fact_of(sample, 2))


def test_a_stale_fact_is_superseded_by_the_same_answer_from_the_text_of_now(facts, known, sample, build, add):
    newer = build(1, parser_version="2")
    moved = "\n" + newer.text.characters
    add(replace(newer, text=replace(newer.text, characters=moved)))
    again = fact_of(newer, id="1" * 32, start=1, end=known.end + 1, quote=known.quote)

    assert facts.add(again) == again
    assert facts.recall() == [again]
    assert facts.get(known.id).superseded_by == again.id


def test_characters_outside_the_basic_plane_do_not_shift_a_span(facts, documents, sample):
    characters = "🌲🌲 The cap\u00edtal is Zubrow. " + "𝄞" * 5 + " It lies on the Lutz."
    document = replace(sample.document, characters=len(characters), chunks=0)
    documents.add(document, replace(sample.text, characters=characters), [], [])
    quote = "It lies on the Lutz."
    start = characters.index(quote)
    assert not facts.add(fact_of(sample, start=start, end=start + len(quote), quote=quote)).stale
    with pytest.raises(FactUnsupported):
        facts.add(fact_of(sample, id="1" * 32, key="k", start=start + 1, end=start + 1 + len(quote), quote=quote))


def test_what_is_forgotten_is_gone_and_brings_nothing_back(facts, known, sample):
    newer = facts.add(fact_of(sample, id="1" * 32, text="Another."))
    facts.forget(newer.id)

    assert facts.recall() == []
    assert facts.ids() == {known.id}
    assert facts.get(known.id).superseded
    with pytest.raises(FactMissing, match="longleaf memory list"):
        facts.forget(newer.id)


def test_a_forgotten_word_is_not_left_in_the_file(tmp_path):
    path = tmp_path / "longleaf.db"
    with Database.open(path) as database:
        facts = Facts(database)
        facts.add(users_word("My cat is called Mirabelle."))
        facts.forget("f" * 32)
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Mirabelle" not in left


def test_ids_may_be_cut_short_while_they_name_one(facts, known, sample):
    other = facts.add(fact_of(sample, 1))
    assert facts.get(other.id[:-1] + "1") == other
    for wrong in ("", "0000", "abc", "%", "_" * 32):
        with pytest.raises(FactMissing):
            facts.get(wrong)


def test_pinned_facts_are_known_apart(facts, known, sample):
    facts.add(fact_of(sample, 1))
    facts.pin(known.id)
    assert [item.id for item in facts.recall(pinned=True)] == [known.id]
    facts.pin(known.id, False)
    assert facts.recall(pinned=True) == []
    with pytest.raises(FactMissing):
        facts.pin("nothing")


def test_words_are_looked_up_whole(facts, known, sample):
    assert facts.recall(words=["fact"]) == facts.recall(words=["x", "0"]) == [known]
    assert facts.recall(words=["fac"]) == facts.recall(words=["%"]) == []


def test_a_users_word_holds_for_any_document(facts, known, sample):
    mine = facts.add(users_word(asked_at=NOON + timedelta(hours=1)))
    assert facts.recall([sample.document.id]) == [mine, known]
    assert facts.recall(["another"]) == [mine]


hours = st.integers(0, 30)


@given(
    asked=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), hours), min_size=1, max_size=12),
    since=st.none() | hours,
    until=st.none() | hours,
    order=st.sampled_from(["newest", "oldest"]),
    limit=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_facts_are_only_added_and_time_is_exact(tmp_path_factory, sample, asked, since, until, order, limit):
    """Whatever is asked in whatever order, nothing once written is lost or changed, no superseded fact is recalled, and
    a period gives what was asked in it and nothing else."""
    from longleaf.memory.documents import Documents

    at = [None if hour is None else NOON + timedelta(hours=hour) for hour in (since, until)]
    with Database.open(tmp_path_factory.mktemp("facts") / "longleaf.db") as database:
        Documents(database).add(sample.document, sample.text, sample.chunks, sample.bodies)
        facts = Facts(database)
        seen = {}
        for number, (subject, answer, hour) in enumerate(asked):
            moment = NOON + timedelta(hours=hour)
            new = fact_of(
                sample,
                id=f"{number:032x}",
                key=f"q{subject}",
                text=f"Answer {answer}.",
                asked_at=moment,
                valid_from=moment,
            )
            kept = facts.add(new)
            seen.setdefault(kept.id, kept)
            everything = {item.id: item for item in facts.list(superseded=True)}
            assert everything.keys() == seen.keys()
            for id_, before in seen.items():
                assert replace(everything[id_], superseded_by=None, superseded_at=None) == before
        current = [item for item in facts.list() if not item.superseded]
        assert {item.key for item in current} == {f"q{subject}" for subject, _, _ in asked}
        assert len(current) == len({item.key for item in current})
        last = {f"q{subject}": f"Answer {answer}." for subject, answer, _ in asked}
        assert {item.key: item.text for item in current} == last

        wanted = [
            item
            for item in current
            if (at[0] is None or item.asked_at >= at[0]) and (at[1] is None or item.asked_at < at[1])
        ]
        sign = -1 if order == "newest" else 1
        wanted.sort(key=lambda item: (sign * item.asked_at.timestamp(), item.id))
        assert facts.recall(since=at[0], until=at[1], order=order, limit=limit) == wanted[:limit]


@pytest.fixture
def index(tmp_path):
    with Vectors.open(tmp_path / "chroma", "embedder", 16) as vectors:
        yield vectors


def put(vectors, sample, *facts):
    vectors.add([fact.id for fact in facts], sample.vectors[: len(facts)], ["d"] * len(facts), ["-"] * len(facts))


def test_vectors_of_facts_lie_beside_those_of_chunks(index, sample):
    beside = index.beside(FACTS)
    put(beside, sample, users_word())
    assert (index.count(), beside.count()) == (0, 1)
    index.reset()
    assert beside.count() == 1
    beside.reset()
    assert beside.count() == 0


def test_vectors_of_facts_made_by_another_embedder_are_dropped(tmp_path, sample):
    with Vectors.open(tmp_path / "chroma", "embedder", 16) as index:
        put(index.beside(FACTS), sample, users_word())
    with pytest.raises(IndexStale):
        Vectors.open(tmp_path / "chroma", "another", 16)
    with Vectors.open(tmp_path / "chroma", "another", 16, rebuild=True) as index:
        assert index.beside(FACTS).count() == 0


def test_facts_and_their_vectors_come_back_in_step(facts, known, sample, index):
    """As after a kill between the two: a fact without a vector, or a vector whose fact was being forgotten."""
    vectors = index.beside(FACTS)
    assert reconcile_facts(facts, vectors) == (known.id,)
    put(vectors, sample, known)
    assert reconcile_facts(facts, vectors) == ()

    newer = facts.add(fact_of(sample, id="1" * 32, text="Another."))
    assert reconcile_facts(facts, vectors) == (newer.id,)
    put(vectors, sample, known, newer)

    vectors.remove([newer.id])
    assert reconcile_facts(facts, vectors) == (newer.id,)
    put(vectors, sample, known, newer)
    facts.forget(newer.id)
    assert reconcile_facts(facts, vectors) == ()
    assert vectors.ids() == {known.id}
