"""Whether a line says what the text says is decided by code: copies and paraphrases pass, changed facts do not."""

import pytest

from longleaf.agents.lines import split, support, units
from longleaf.memory.records import SourceSpan

TEXT = (
    "The capital of Freedonia is Zubrow. It lies on the river Lutz, and 4,000 people live in it.\n\n"
    "The king was crowned in 1887. He was not loved by the farmers of the north. Queen Adela built the bridge in stone."
)
QUESTION = "Who built the bridge?"


@pytest.fixture
def held(desk):
    document = desk.add(TEXT)
    known = units([SourceSpan(document.id, 0, len(TEXT))], desk.deps.shelf)

    def check(line):
        spans = support(line, known, QUESTION, desk.deps.shelf, desk.deps.search)
        return [TEXT[span.start : span.end] for span in spans]

    return check


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("The king was crowned in 1887.", "The king was crowned in 1887."),
        ("crowned in 1887", "The king was crowned in 1887."),
        ("The bridge was built by Queen Adela, in stone", "Queen Adela built the bridge in stone."),
        ("Freedonia's capital is Zubrow.", "The capital of Freedonia is Zubrow."),
        ("The farmers of the north: not loved", "He was not loved by the farmers of the north."),
    ],
)
def test_a_line_rests_on_the_whole_sentence_it_comes_from(held, line, sentence):
    assert held(line) == [sentence]


def test_a_line_made_of_two_places_rests_on_neither(desk):
    far = "The keeper of the lighthouse was Harriet Vane. " + "Rain fell on the sea. " * 40 + "He was a dangerous man."
    document = desk.add(far)
    known = units([SourceSpan(document.id, 0, len(far))], desk.deps.shelf)
    line = "The keeper was Harriet Vane, and he was a very dangerous man indeed"
    assert support(line, known, QUESTION, desk.deps.shelf, desk.deps.search) == ()


def test_a_line_may_rest_on_two_sentences(held):
    assert held("The king was crowned in 1887. He was not loved by the farmers of the north.") == [
        "The king was crowned in 1887.",
        "He was not loved by the farmers of the north.",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "The king was crowned in 1888.",
        "The capital of Freedonia is Paris.",
        "He was loved by the farmers of the north.",
        "loved by the farmers of the north",
        "Queen Griselda built the bridge in stone.",
        "70,000 people live in it",
        "There is nothing about that here.",
        "...",
        "",
    ],
)
def test_a_changed_fact_rests_on_nothing(held, line):
    assert held(line) == []


def test_a_reply_is_split_into_lines_without_bullets_markup_and_repeats():
    reply = " First one. And a second.\n- **Third** one\n3) Fourth, of Mr. Smith\n\n* third one!\n---\n<text>fifth"
    assert split(reply) == ["First one.", "And a second.", "Third one", "Fourth, of Mr. Smith", "fifth"]


def test_a_quotation_mark_without_its_partner_is_no_part_of_a_line():
    assert split('It says so." And "he" left.\n"A whole quote."\n- "Cut off') == [
        "It says so.",
        'And "he" left.',
        '"A whole quote."',
        "Cut off",
    ]
