"""Documents, texts and chunks, on both databases."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from longleaf.engine.errors import LongleafError
from longleaf.memory.documents import Documents
from longleaf.memory.errors import DocumentMissing
from longleaf.memory.records import chunk_id, text_version_id


def rows(database, table):
    with database.session() as session:
        return session.scalar(text(f"SELECT count(*) FROM {table}"))


def test_what_is_added_comes_back(documents, sample, add):
    add(sample)

    assert documents.get(sample.document.id) == sample.document
    assert documents.find(sample.document.id) == sample.document
    assert documents.list() == [sample.document]
    assert documents.text(sample.document.id) == sample.text
    assert documents.chunks(sample.document.id) == sample.chunks
    assert documents.chunk_ids() == set(sample.chunk_ids)
    assert documents.unfinished() == []


def test_chunks_by_id_keeps_order_and_leaves_out_strangers(documents, sample, add):
    add(sample)
    asked = [sample.chunk_ids[2], "no such chunk", sample.chunk_ids[0]]

    assert list(documents.chunks_by_id(asked)) == [sample.chunk_ids[2], sample.chunk_ids[0]]
    assert documents.chunks_by_id([]) == {}


def test_chunks_by_id_takes_more_ids_than_a_statement_takes_values(documents, sample, add):
    add(sample)

    assert len(documents.chunks_by_id([*sample.chunk_ids, *(f"x{n}" for n in range(70_000))])) == 3


def test_adding_the_same_text_twice_changes_nothing(documents, database, sample, add, words):
    add(sample)
    add(sample)

    assert documents.chunks(sample.document.id) == sample.chunks
    assert (rows(database, "text_version"), rows(database, "words")) == (1, 3)
    assert len(words.search(["rivers"], None, 10)) == 3


def test_another_chunking_of_the_same_text_replaces_it(documents, database, sample, add, build):
    add(sample)
    shorter = build(1, chunks=2)
    assert shorter.text.id == sample.text.id
    add(shorter)

    assert documents.chunks(sample.document.id) == shorter.chunks
    assert rows(database, "words") == 2


def test_a_new_text_version_is_current_and_the_old_one_stays(documents, database, add, build, words):
    old, new = build(1), build(1, chunks=5, parser_version="2")
    add(old)
    add(new)

    assert documents.get(new.document.id) == new.document
    assert documents.text(new.document.id) == new.text
    assert documents.chunk_ids() == set(new.chunk_ids)
    assert {found for found, _ in words.search(["rivers"], None, 10)} == set(new.chunk_ids)
    assert set(documents.versions(new.document.id)) == {old.text.id, new.text.id}
    # The old text's vectors are still to go.
    assert documents.unfinished() == [(old.document.id, old.text.id)]


def test_removing_takes_everything_and_nothing_else(documents, database, add, build, words):
    gone, stays = build(1), build(2)
    add(gone)
    add(stays)

    assert documents.remove(gone.document.id) == [gone.text.id]

    assert documents.list() == [stays.document]
    assert documents.find(gone.document.id) is None
    assert (rows(database, "text_version"), rows(database, "chunk"), rows(database, "words")) == (1, 3, 3)
    assert words.search(["word1x0"], None, 10) == []
    assert len(words.search(["rivers"], None, 10)) == 3
    assert documents.unfinished() == [(gone.document.id, gone.text.id)]
    with pytest.raises(DocumentMissing, match="longleaf list"):
        documents.remove(gone.document.id)


def test_the_full_text_index_is_sound_after_removals(documents, database, add, build):
    for seed in range(5):
        add(build(seed))
    documents.remove(build(2).document.id)
    add(build(3, chunks=2))

    if database.dialect == "sqlite":
        with database.session(write=True) as session:
            session.execute(text("INSERT INTO words_index (words_index) VALUES ('integrity-check')"))


def test_a_prefix_is_enough(documents, sample, add):
    add(sample)

    assert documents.get(sample.document.id[:8].upper()) == sample.document


def test_an_ambiguous_prefix_lists_the_candidates(documents, add, build):
    samples = [build(seed) for seed in range(40)]
    for made in samples:
        add(made)
    first = [made for made in samples if made.document.id[0] == samples[0].document.id[0]]
    assert len(first) > 1

    with pytest.raises(DocumentMissing) as raised:
        documents.get(samples[0].document.id[0])

    assert all(made.document.id[:16] in str(raised.value) for made in first[:10])


@pytest.mark.parametrize("wanted", ["", "   ", "zz", "%", "_", "\0", "\ud800", "'; DROP TABLE document; --"])
def test_a_strange_id_is_missing(documents, sample, add, wanted):
    add(sample)

    with pytest.raises(DocumentMissing):
        documents.get(wanted)


def test_asking_for_parts_of_a_missing_document(documents):
    with pytest.raises(DocumentMissing):
        documents.text("no such document")
    with pytest.raises(DocumentMissing):
        documents.chunks("no such document")


def test_the_journal(documents, sample, add):
    documents.begin(sample.document.id, sample.text.id)
    documents.begin(sample.document.id, sample.text.id)
    assert documents.unfinished() == [(sample.document.id, sample.text.id)]

    documents.forget_unfinished(sample.text.id)
    assert documents.unfinished() == []


def test_a_failing_add_leaves_nothing_but_the_journal(documents, database, sample):
    documents.begin(sample.document.id, sample.text.id)
    twice = [sample.chunks[0], sample.chunks[0]]

    with pytest.raises(Exception, match="chunk"):
        documents.add(sample.document, sample.text, twice, ["a", "b"])

    assert documents.list() == []
    assert (rows(database, "text_version"), rows(database, "words")) == (0, 0)
    assert documents.unfinished() == [(sample.document.id, sample.text.id)]


def test_records_that_do_not_belong_together_are_refused(documents, sample, build):
    other = build(2)
    with pytest.raises(ValueError, match="do not name each other"):
        documents.add(sample.document, other.text, [], [])
    with pytest.raises(ValueError, match="does not belong"):
        documents.add(sample.document, sample.text, other.chunks, other.bodies)
    with pytest.raises(ValueError, match="bodies"):
        documents.add(sample.document, sample.text, sample.chunks, [])


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_characters_no_database_keeps_are_refused_in_a_text(documents, sample, character):
    text_ = replace(sample.text, characters="ab" + character)

    with pytest.raises(LongleafError, match="character 2"):
        documents.add(sample.document, text_, [], [])


def test_all_other_characters_survive(documents, sample):
    characters = "".join(map(chr, [*range(1, 0x250), 0x202E, 0xFEFF, 0xFFFF, 0x1F600, 0x10FFFF])) + "\r\n\x85\u2028"
    text_ = replace(sample.text, characters=characters)
    documents.add(sample.document, text_, [], [])

    assert documents.text(sample.document.id).characters == characters


def test_a_title_may_hold_anything(documents, sample):
    documents.add(replace(sample.document, title="a\0b\udcff"), sample.text, [], [])

    assert documents.get(sample.document.id).title == "a\ufffdb\ufffd"


def test_a_long_document(documents, build, add, words):
    long = build(7, chunks=12_000)
    add(long)

    assert documents.text(long.document.id).characters == long.text.characters
    assert len(documents.chunks(long.document.id)) == 12_000
    assert words.search(["word7x11999"], None, 3)[0][0] == long.chunk_ids[-1]


def test_ids_are_stable():
    assert text_version_id("d", "p", "1") == text_version_id("d", "p", "1") != text_version_id("d", "p", "2")
    assert chunk_id("t", 12) == "t:000012"


def test_documents_knows_its_database(database):
    assert Documents(database).database is database
