"""Chunks partition a text, keep to their size and carry headings."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.retrieval.chunk import ChunkPlan, body, chunk
from longleaf.retrieval.embedding import HashedWords
from longleaf.retrieval.text import Heading, Page, Text

COUNT = HashedWords().count


def by_character(texts):
    """A tokenizer for scripts without spaces: every character is a token."""
    return [len(text) for text in texts]


def plain(characters, headings=()):
    return Text(characters, (Page(1, 0, len(characters)),), tuple(headings))


@st.composite
def texts(draw):
    """Any characters, with headings anywhere, even in the middle of a word."""
    piece = st.one_of(
        st.text(max_size=30),
        st.sampled_from(["word " * 40, "x" * 300, "漢字かな" * 50, "\n\n", "\n", "A sentence. ", "Ends here! ", " "]),
    )
    characters = "".join(draw(st.lists(piece, max_size=12)))
    edges = sorted(draw(st.sets(st.integers(0, len(characters)), max_size=8)))
    headings = [
        Heading(start, end, draw(st.integers(1, 3))) for start, end in zip(edges[::2], edges[1::2], strict=False)
    ]
    return plain(characters, headings)


PLANS = st.builds(
    lambda tokens, overlap, least: ChunkPlan(tokens, overlap % tokens, least % (tokens + 1)),
    st.integers(1, 60),
    st.integers(0, 60),
    st.integers(0, 60),
)


@given(texts(), PLANS, st.sampled_from([COUNT, by_character]))
def test_the_spans_of_chunks_partition_the_text(text, plan, count):
    chunks = chunk(text, count, plan)

    assert "".join(text.slice(part.span) for part in chunks) == text.characters
    assert [part.ordinal for part in chunks] == list(range(len(chunks)))
    assert all(len(part.span) > 0 for part in chunks)


@given(texts(), PLANS)
def test_a_chunk_holds_at_most_its_tokens_and_the_headings_that_open_it(text, plan):
    for part in chunk(text, by_character, plan):
        headings = sum(
            min(heading.end, part.span.end) - max(heading.start, part.span.start)
            for heading in text.headings
            if heading.start < part.span.end and part.span.start < heading.end
        )
        assert part.tokens == len(part.span)
        assert part.tokens <= plan.tokens + headings


@given(texts(), PLANS)
def test_the_overlap_is_the_end_of_the_chunk_before(text, plan):
    chunks = chunk(text, by_character, plan)

    assert all(part.lead == part.span.start for part in chunks[:1])
    for before, part in pairwise(chunks):
        assert before.span.start <= part.lead <= part.span.start == before.span.end
        assert part.span.start - part.lead <= plan.overlap


def test_the_overlap_is_whole_sentences():
    text = plain("One two three four. " * 30)
    chunks = chunk(text, COUNT, ChunkPlan(30, 12, 0))

    assert len(chunks) > 3
    for part in chunks[1:]:
        assert text.characters[part.lead : part.span.start] == "One two three four. " * 2
        assert body(text, part).startswith("One two three four. One two")


def test_no_overlap_where_none_is_wanted():
    chunks = chunk(plain("One two three four. " * 30), COUNT, ChunkPlan(30, 0, 0))
    assert all(part.lead == part.span.start for part in chunks)


def test_a_heading_opens_the_chunk_of_what_follows_it():
    first, second = "Alpha", "Beta"
    characters = f"{first}\n\n{'One two three. ' * 10}\n\n{second}\n\n{'Four five six. ' * 10}"
    place = characters.index(second)
    text = plain(characters, [Heading(0, 5, 1), Heading(place, place + 4, 1)])

    chunks = chunk(text, COUNT, ChunkPlan(60, 0, 20))

    assert [text.slice(part.span).split()[0] for part in chunks] == ["Alpha", "Beta"]


def test_a_chunk_names_the_headings_it_stands_under():
    characters = "Book\n\nPart\n\n" + "One two three four. " * 60
    text = plain(characters, [Heading(0, 4, 1), Heading(6, 10, 2)])

    chunks = chunk(text, COUNT, ChunkPlan(50, 10, 10))

    assert len(chunks) > 3
    assert all(body(text, part).startswith("Book > Part\n") for part in chunks[1:])
    assert body(text, chunks[0]).count("Part") <= 2


def test_an_endless_heading_does_not_crowd_out_the_chunk():
    characters = "h " * 2000 + "\n\n" + "One two three four. " * 20
    text = plain(characters, [Heading(0, 4000, 1)])
    last = chunk(text, COUNT, ChunkPlan(50, 0, 10))[-1]

    assert COUNT([body(text, last)])[0] < 100


def test_an_empty_text_has_no_chunks():
    assert chunk(plain(""), COUNT) == []


@pytest.mark.parametrize("sizes", [(10, 10, 0), (10, -1, 0), (10, 0, 11), (10, 0, -1)])
def test_a_plan_that_cannot_be_kept_is_refused(sizes):
    with pytest.raises(ValueError, match="chunk plan"):
        ChunkPlan(*sizes)


def test_headings_and_overlap_share_one_allowance():
    characters = "A heading of six whole words\n\n" + "One two three four five. " * 60
    text = plain(characters, [Heading(0, 28, 1)])

    for part in chunk(text, COUNT, ChunkPlan(40, 12, 10))[1:]:
        assert sum(COUNT([part.context, characters[part.lead : part.span.start]])) <= 12
