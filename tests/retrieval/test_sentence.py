"""Paragraphs and sentences partition a span, and sentences end where a reader would end them."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.retrieval.sentence import paragraphs, sentences, trimmed
from longleaf.retrieval.text import Span

PIECES = st.sampled_from(
    [
        "word",
        "Dr. ",
        "No. 5",
        "3.14",
        "\n",
        "\n\n",
        "\n \n",
        " ",
        ". ",
        "! ",
        "? ",
        '." ',
        "…",
        "- ",
        "1) ",
        "。",
        "！",
        "」",
    ]
)
PROSE = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=60).map("".join)


def split(text):
    return [text[part.start : part.end].strip() for part in sentences(text, Span(0, len(text)))]


@st.composite
def spans(draw):
    text = draw(PROSE)
    start = draw(st.integers(0, len(text)))
    return text, Span(start, draw(st.integers(start, len(text))))


@pytest.mark.parametrize("cut", [paragraphs, sentences])
@given(spans())
def test_the_parts_add_up_to_the_span(cut, case):
    text, span = case
    parts = list(cut(text, span))

    assert "".join(text[part.start : part.end] for part in parts) == text[span.start : span.end]
    assert all(left.end == right.start for left, right in pairwise(parts))
    assert all(len(part) > 0 for part in parts)
    if parts:
        assert (parts[0].start, parts[-1].end) == (span.start, span.end)


@given(spans())
def test_trimmed_keeps_all_but_white_space_at_the_ends(case):
    text, span = case
    inner = trimmed(text, span)
    assert text[inner.start : inner.end] == text[span.start : span.end].strip()


@given(spans())
def test_no_sentence_runs_over_a_blank_line(case):
    text, span = case
    for part in sentences(text, span):
        assert "\n\n" not in text[part.start : part.end].strip()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mr. Jones. They left.", ["Dr. Smith met Mr. Jones.", "They left."]),
        ("J. R. R. Tolkien wrote it. It sold.", ["J. R. R. Tolkien wrote it.", "It sold."]),
        ("It costs 3.14 or $1.50. Pay now.", ["It costs 3.14 or $1.50.", "Pay now."]),
        ("See e.g. Fig. 3 and p. 12. Then go.", ["See e.g. Fig. 3 and p. 12.", "Then go."]),
        ("Take No. 5 home. Done.", ["Take No. 5 home.", "Done."]),
        ("The answer was no. Then he left.", ["The answer was no.", "Then he left."]),
        ("He said “Stop.” She went on.", ["He said “Stop.”", "She went on."]),
        ("Wait… what happened? Nothing.", ["Wait… what happened?", "Nothing."]),
        ("It fell in the U.S. economy. Prices rose.", ["It fell in the U.S. economy.", "Prices rose."]),
        ("これは本です。あれも本です。", ["これは本です。", "あれも本です。"]),
        ("「行く。」と言った。終わり。", ["「行く。」", "と言った。", "終わり。"]),
        ("A title\n\nA body. More", ["A title", "A body.", "More"]),
        (
            "We sell:\n- apples\n- pears\n1. plums\nb) figs\niv. nuts",
            ["We sell:", "- apples", "- pears", "1. plums", "b) figs", "iv. nuts"],
        ),
        ("The work came to an\nend. Nobody knew", ["The work came to an\nend.", "Nobody knew"]),
        ("He gave it to\nhim. Nobody knew", ["He gave it to\nhim.", "Nobody knew"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, parts):
    assert split(text) == parts


def test_a_long_table_is_cut_into_its_lines():
    rows = [f"row {number:03d} | value {number * 7}" for number in range(60)]
    assert split("\n".join(rows)) == rows


def test_a_long_line_of_prose_without_an_end_stays_whole():
    line = "word " * 400
    assert split(line) == [line.strip()]


HANG = """
from longleaf.retrieval.sentence import sentences
from longleaf.retrieval.text import Span
for filler in [".", "…", '"', "\\n", " ", "- ", "a.", "\\n "]:
    text = "Start" + filler * 300_000 + "end"
    assert "".join(text[part.start : part.end] for part in sentences(text, Span(0, len(text)))) == text
"""


def test_a_long_run_of_one_character_does_not_hang():
    # A quadratic search takes a quarter of an hour for it.
    subprocess.run([sys.executable, "-c", HANG], check=True, timeout=120)
