"""Documents go in and come out whole, and vectors stay in step with SQL."""

import pytest

from longleaf.memory.errors import DocumentMissing, IndexStale
from longleaf.retrieval.chunk import ChunkPlan
from longleaf.retrieval.embedding import HashedWords

RIVER = "The river Lutz rises in the hills. It floods in spring. " * 12
KING = "The king was crowned in 1887. He was not loved. He built a bridge. " * 12


class OtherWords(HashedWords):
    """Another embedder: other fingerprint, fewer dimensions."""

    dimensions = 64
    fingerprint = "hashed-words:other"


class Broken(HashedWords):
    """Fails as a model does that runs out of memory."""

    def embed(self, texts, on_progress=None):
        raise MemoryError("no room for the vectors")


def test_an_added_document_is_there_whole(stack, parse_text):
    record = stack.index.add(parse_text(RIVER), "river.txt")

    assert stack.documents.list() == [record]
    assert (record.title, record.characters, record.status) == ("river.txt", len(RIVER), "whole")
    chunks = stack.documents.chunks(record.id)
    assert len(chunks) == record.chunks > 3
    assert sum(chunk.tokens for chunk in chunks) == record.tokens
    assert "".join(RIVER[chunk.start : chunk.end] for chunk in chunks) == RIVER
    assert stack.shelf.text(record.id).characters == RIVER
    assert stack.consistent()


def test_the_title_of_the_text_goes_before_the_file_name(stack, parse_text):
    assert stack.index.add(parse_text(RIVER, title="On rivers"), "river.txt").title == "On rivers"


def test_the_same_bytes_twice_are_one_document(stack, parse_text):
    first = stack.index.add(parse_text(RIVER), "river.txt")
    again = stack.index.add(parse_text(RIVER), "copy-of-river.txt")

    assert again == first
    assert stack.documents.list() == [first]
    assert stack.vectors.count() == first.chunks


def test_another_parse_takes_the_place_of_the_old_one(stack, parse_text):
    old = stack.index.add(parse_text(RIVER, data=b"same"), "river.pdf")
    stack.shelf.text(old.id)
    new = stack.index.add(parse_text(KING, data=b"same", version="2"), "river.pdf")

    assert (new.id, new.added_at) == (old.id, old.added_at)
    assert stack.shelf.text(new.id).characters == KING
    assert len(stack.documents.versions(new.id)) == 2
    assert stack.consistent()


def test_a_removed_document_is_gone(stack, parse_text):
    river = stack.index.add(parse_text(RIVER), "river.txt")
    king = stack.index.add(parse_text(KING), "king.txt")
    stack.shelf.text(river.id)

    stack.index.remove(river.id)

    assert [record.id for record in stack.documents.list()] == [king.id]
    with pytest.raises(DocumentMissing):
        stack.shelf.text(river.id)
    with pytest.raises(DocumentMissing):
        stack.index.remove(river.id)
    assert {hit.document_id for hit in stack.search().find("river Lutz floods").passages} == {king.id}
    assert stack.consistent()


def test_stages_are_told_to_the_end(stack, parse_text):
    told = []
    record = stack.index.add(parse_text(RIVER), "river.txt", lambda *stage: told.append(stage))

    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["chunk", "embed", "write"]
    assert ("embed", record.chunks, record.chunks) in told
    assert told[-1] == ("write", record.chunks, record.chunks)


def test_a_failed_embedding_leaves_the_library_as_it_was(open_stack, parse_text):
    broken = open_stack(Broken())
    with pytest.raises(MemoryError):
        broken.index.add(parse_text(RIVER), "river.txt")

    assert broken.documents.list() == []
    assert broken.consistent()


def test_another_embedder_is_refused_with_the_fix_and_a_rebuild_is_the_fix(open_stack, parse_text):
    record = open_stack().index.add(parse_text(RIVER), "river.txt")

    with pytest.raises(IndexStale, match="longleaf index --rebuild"):
        open_stack(OtherWords())
    rebuilt = open_stack(OtherWords(), rebuild=True)
    assert rebuilt.index.rebuild() == 1

    assert rebuilt.consistent()
    assert rebuilt.search().find("When does the river flood?").passages[0].document_id == record.id
    assert open_stack(OtherWords()).vectors.count() == record.chunks


def test_a_rebuild_takes_new_chunk_sizes(open_stack, parse_text):
    before = open_stack().index.add(parse_text(RIVER), "river.txt")
    larger = open_stack(plan=ChunkPlan(100, 6, 8))
    larger.index.rebuild()

    assert 0 < larger.documents.get(before.id).chunks < before.chunks
    assert larger.consistent()


def test_lost_vectors_are_made_again(stack, parse_text):
    river = stack.index.add(parse_text(RIVER), "river.txt")
    king = stack.index.add(parse_text(KING), "king.txt")
    stack.vectors.remove([chunk.id for chunk in stack.documents.chunks(river.id)][1:])

    assert stack.index.repair() == 1

    assert stack.consistent()
    assert stack.vectors.ids(king.id)
    assert stack.index.repair() == 0


def test_vectors_without_a_document_are_dropped(stack, parse_text):
    river = stack.index.add(parse_text(RIVER), "river.txt")
    stack.documents.begin("f" * 64, "e" * 32)
    stack.vectors.add(["e" * 32 + ":000000"], stack.embedder.embed(["orphan"]), ["f" * 64], ["e" * 32])

    assert stack.index.repair() == 0

    assert stack.consistent()
    assert stack.vectors.ids() == stack.vectors.ids(river.id)


def test_a_repair_under_other_chunk_sizes_leaves_no_vectors_behind(open_stack, parse_text):
    record = open_stack().index.add(parse_text(RIVER), "river.txt")
    larger = open_stack(plan=ChunkPlan(100, 6, 8))
    larger.vectors.remove([larger.documents.chunks(record.id)[0].id])

    assert larger.index.repair() == 1

    assert larger.consistent()


@pytest.mark.parametrize("characters", ["x", "...", "word " * 5000, "漢字" * 2000, "e\u0301 \U0001f600 \ufffd"])
def test_odd_texts_can_be_added_and_searched(stack, parse_text, characters):
    record = stack.index.add(parse_text(characters), "odd.txt")

    assert stack.shelf.text(record.id).characters == characters
    assert stack.consistent()
    for question in ("word", "???", "漢字", "\U0001f600"):
        for sentence in stack.search().find(question).sentences:
            assert characters[sentence.span.start : sentence.span.end].strip()
