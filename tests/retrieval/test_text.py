"""Spans, pages and headings of a text."""

import pytest

from longleaf.retrieval.text import Heading, Page, Span, Text

BOOK = Text(
    "one\n\ntwo\nthree",
    (Page(1, 0, 3), Page(2, 4, 4), Page(3, 5, 8), Page(4, 9, 14, None)),
    (Heading(0, 3, 1), Heading(5, 8, 2), Heading(9, 14, 1)),
)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_a_span_is_an_interval(start, end):
    with pytest.raises(ValueError, match="not an interval"):
        Span(start, end)


def test_spans_overlap_only_where_they_share_a_character():
    assert Span(0, 3).overlaps(Span(2, 4))
    assert not Span(0, 3).overlaps(Span(3, 4))
    assert not Span(2, 2).overlaps(Span(0, 2))


@pytest.mark.parametrize(("offset", "page"), [(0, 1), (3, 1), (4, 1), (5, 3), (8, 3), (9, 4), (13, 4), (99, 4)])
def test_a_character_is_on_the_last_full_page_that_begins_before_it(offset, page):
    assert BOOK.page_at(offset).number == page


def test_a_heading_is_in_force_until_one_as_high():
    assert [heading.start for heading in BOOK.headings_at(6)] == [0, 5]
    assert [heading.start for heading in BOOK.headings_at(10)] == [9]
    assert BOOK.headings_at(0)[0].start == 0


@pytest.mark.parametrize("pages", [(), (Page(1, 0, 9),), (Page(1, 2, 3), Page(2, 1, 3)), (Page(1, 2, 1),)])
def test_pages_that_do_not_fit_the_characters_are_refused(pages):
    with pytest.raises(ValueError, match="page"):
        Text("abc", pages)


def test_a_page_that_failed_makes_the_text_partial():
    broken = Text("abc", (Page(1, 0, 3), Page(2, 3, 3, "damaged")))
    assert broken.status == "partial"
    assert [page.number for page in broken.failed_pages()] == [2]
    assert BOOK.status == "whole"
