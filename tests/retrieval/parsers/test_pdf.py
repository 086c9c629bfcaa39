"""PDF pages into paragraphs: order, lines, hyphens, furniture, notes, headings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq

from longleaf.retrieval.parsers import parse
from longleaf.retrieval.parsers.furniture import remove_furniture
from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.parsers.layout import Measures, keeps_hyphen
from longleaf.retrieval.parsers.line import Line
from longleaf.retrieval.parsers.outline import Entry, clean_title, locate
from longleaf.retrieval.parsers.pdf import read
from longleaf.retrieval.text import Text

WRAPPED = [
    "The first paragraph of this page has lines that the typesetter broke where",
    "the margin was, so that they are read as one line without any breaks in it.",
]
CONTENTS_NUMBER = re.compile(r"\.{4,} ?(?:\d+|[ivxlc]+)$", re.MULTILINE)
LINK = re.compile(r"\[https?://[^\]\s]*\]")


def page_texts(text: Text) -> list[str]:
    return [text.characters[page.start : page.end] for page in text.pages]


def headings(text: Text) -> list[tuple[str, int]]:
    return [(text.characters[item.start : item.end], item.level) for item in text.headings]


def test_lines_become_paragraphs(make):
    lines = make.lines(WRAPPED, top=700) + make.lines(["A second, short one."], top=660)
    text = read(Job("a.pdf", make.pdf([lines])))
    assert text.characters == " ".join(WRAPPED) + "\n\nA second, short one."


def test_list_items_stay_apart(make):
    lines = make.lines([*WRAPPED, "- one item", "- another item", "1. a third"])
    text = read(Job("a.pdf", make.pdf([lines])))
    assert text.characters == " ".join(WRAPPED) + "\n- one item\n- another item\n1. a third"


def test_page_count_in_is_page_count_out(make):
    text = read(Job("a.pdf", make.pdf([[], make.lines(["Words."]), [], []])))
    assert page_texts(text) == ["", "Words.", "", ""]
    assert text.page_at(0).number == 2


def test_running_lines_are_removed(make):
    pages = [
        [
            (72, 760, 9, "The Running Title"),
            (300, 30, 9, str(number)),
            *make.lines([f"Page {number} of this book holds text, and begins with a line of its own."]),
        ]
        for number in range(1, 9)
    ]
    text = read(Job("a.pdf", make.pdf(pages)))
    assert "Running" not in text.characters
    assert page_texts(text)[3] == "Page 4 of this book holds text, and begins with a line of its own."


def test_lines_that_only_look_alike_stay(make):
    pages = [make.lines([f"Chapter {name}", "Some words of it."]) for name in ("one", "two", "three", "four", "five")]
    text = read(Job("a.pdf", make.pdf(pages)))
    assert all(name in text.characters for name in ("Chapter one", "Chapter five"))


def test_short_documents_lose_nothing():
    page = [Line("Title", 0, 50, 700, 10), Line("1", 0, 5, 30, 10)]
    assert remove_furniture([page, page]) == [page, page]


def test_notes_follow_their_paragraph(make):
    body = make.lines(WRAPPED, top=700)
    width_mark = (72 + 10 * 34, 700 - 12 + 4, 6, "1")
    page = [*body, width_mark, *make.lines(["Another paragraph."], top=650)]
    page += [(72, 103, 5, "1"), (76, 100, 8, "What the note says.")]
    text = read(Job("a.pdf", make.pdf([page])))
    note, other = text.characters.find("What the note says."), text.characters.find("Another paragraph.")
    assert 0 < note < other


def test_headings_from_bookmarks(make):
    pages = [
        [(72, 720, 10, "1 Scope"), *make.lines(WRAPPED, top=690)],
        [(72, 720, 10, "2 A heading that takes"), (72, 708, 10, "two lines"), *make.lines(WRAPPED, top=670)],
    ]
    data = make.pdf(pages, outline=[("Scope", 1), ("A heading that takes two lines", 2)])
    assert headings(read(Job("a.pdf", data))) == [("1 Scope", 1), ("2 A heading that takes two lines", 1)]


def test_headings_from_font_size(make):
    page = [(72, 740, 20, "Great Title"), (72, 700, 14, "Smaller"), *make.lines(WRAPPED * 3, top=670)]
    assert headings(read(Job("a.pdf", make.pdf([page])))) == [("Great Title", 1), ("Smaller", 2)]


def test_bookmarks_choose_the_nearest_line():
    lines = [Line("Purpose", 0, 50, y, 10) for y in (700, 500, 300)]
    assert locate([Entry("Purpose", 2, 0, 510.0)], lines) == {1: (2, 2)}


@pytest.mark.parametrize(
    ("head", "tail", "words", "hyphenates", "kept"),
    [
        ("dis", "abled", {"disabled": 2}, True, False),
        ("non", "root", {"non-root": 1}, True, True),
        ("ex", "ample", {}, True, False),
        ("ex", "ample", {}, False, True),
        ("line", "end", {"line": 5, "end": 4}, True, True),
        ("Anglo", "Saxon", {}, True, True),
    ],
)
def test_hyphens(head, tail, words, hyphenates, kept):
    assert keeps_hyphen(head, tail, Measures(10, 1.2, Counter(words), hyphenates)) is kept


def test_titles_that_programs_write_are_none():
    assert clean_title("Microsoft Word - report.doc", "x.pdf") == ""
    assert clean_title("untitled", "x.pdf") == clean_title("x", "/a/x.pdf") == clean_title("a.dvi", "x.pdf") == ""
    assert clean_title("A  Real\nTitle", "x.pdf") == "A Real Title"


PRINTABLE = st.text(st.sampled_from("abc XYZ.,-()12é"), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(20, 500), st.integers(20, 770), st.sampled_from([6, 8, 10, 12, 20]), PRINTABLE),
            max_size=8,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_pdf_keeps_its_pages_and_letters(make, pages):
    pages[0] = [*pages[0], (72, 400, 10, "words")]
    text = read(Job("a.pdf", make.pdf(pages)))
    assert len(text.pages) == len(pages)
    last = 0
    for page in text.pages:
        assert last <= page.start <= page.end <= len(text)
        last = page.end
    for heading in text.headings:
        assert text.characters[heading.start : heading.end].strip()
    assert "words" in text.characters


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


@pytest.mark.parametrize(
    ("printed", "other"),
    [("fhs-3.0.pdf", "fhs-3.0.html"), ("debian-policy-4.6.2.pdf", "debian-policy-4.6.2.epub")],
)
def test_the_same_text_from_two_formats(documents, printed, other):
    """99% of the smaller's words, in order; printed page numbers and link addresses are not in both."""
    texts = [parse(documents / name).text.characters for name in (printed, other)]
    first, second = (words(LINK.sub("", CONTENTS_NUMBER.sub("", text))) for text in texts)
    assert LCSseq.similarity(first, second) / min(len(first), len(second)) >= 0.99


def test_the_example_is_read(request):
    example = request.config.rootpath / "examples" / "fhs-3.0.pdf"
    text = parse(example).text
    assert len(text.pages) == 50
    assert "/bin contains commands that may be used by both the system administrator and by users" in text.characters
    assert "\n19\n" not in text.characters


def test_a_scanned_page_among_others_makes_the_document_partial(write, make):
    scanned = parse(write("mixed.pdf", make.pdf([make.lines(["A page of prose."]), []], picture=True))).text

    assert [page.error is None for page in scanned.pages] == [True, False]
    assert "--ocr" in scanned.pages[1].error
    assert scanned.status == "partial"
