"""Two readers' answers side by side: whether they agree is judged by code, and differences name pages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.agents.compare import compared, comparison_json
from longleaf.agents.reader import Answer, Claim, Coverage, Quote
from longleaf.engine.contract import Usage

QUESTION = "When was the king of Freedonia crowned?"


def quote(text="The king was crowned in 1887.", start=0, page=1, document="a" * 64):
    return Quote(document, start, start + len(text), page, text, "verified")


def answer(text, *quotes, reader="retrieve", found=True, partial=False):
    quotes = quotes or (quote(),)
    claims = (Claim(text, quotes, 0.8),) if found else ()
    return Answer(text, claims, found, reader, Coverage(1, 1), Usage(), "r", partial=partial)


NOTHING = answer("Not found in the document.", found=False, reader="memory")


@pytest.mark.parametrize(
    ("one", "two", "agree"),
    [
        ("In 1887.", "The king was crowned in 1887.", True),
        ("1887", "1887", True),
        ("In 1887.", "In 1902.", False),
        ("He was crowned in 1887.", "He was never crowned.", False),
        ("The farmers of the north.", "the Farmers of the North", True),
        ("The farmers of the north", "The merchants of the south", False),
        ("In Zubrow, on the river Lutz", "In Zubrow", True),
        ("It was refused.", "It was not refused.", False),
    ],
)
def test_wording_decides_by_what_it_adds_to_the_question(one, two, agree):
    made = compared(QUESTION, [answer(one), answer(two, reader="memory")])
    assert made.agree is agree
    assert compared(QUESTION, [answer(two), answer(one, reader="memory")]).agree is agree


def test_one_that_finds_nothing_does_not_agree_with_one_that_does():
    made = compared(QUESTION, [answer("In 1887."), NOTHING])
    assert not made.agree
    assert made.differences == ("retrieve says “In 1887.” (page 1); memory finds nothing in the text.",)


def test_two_that_find_nothing_agree():
    made = compared(QUESTION, [NOTHING, NOTHING])
    assert (made.agree, made.differences) == (True, ())


def test_differences_name_the_pages_and_the_figures():
    late = quote("The crown came to him in 1902.", 500, 12)
    made = compared(QUESTION, [answer("In 1887."), answer("In 1902.", late, reader="memory")])
    assert made.differences == (
        "retrieve says “In 1887.” (page 1); memory says “In 1902.” (page 12).",
        "The figures differ: retrieve gives 1887; memory gives 1902.",
        "Only retrieve quotes page 1: “The king was crowned in 1887.”",
        "Only memory quotes page 12: “The crown came to him in 1902.”",
    )


def test_quotes_of_one_place_are_no_difference():
    wide = quote("It is said that. The king was crowned in 1887. Then", 0)
    assert compared(QUESTION, [answer("1887"), answer("1887", wide, reader="memory")]).differences == ()


def test_the_same_place_in_another_document_is_another_place():
    other = quote(document="b" * 64)
    made = compared(QUESTION, [answer("1887"), answer("1887", other, reader="memory")])
    assert made.agree
    assert len(made.differences) == 2


def test_a_partial_answer_is_said_to_be_one():
    made = compared(QUESTION, [answer("1887"), answer("1887", reader="memory", partial=True)])
    assert made.differences == ("The answer of memory is partial.",)


def test_a_reader_asked_twice_is_numbered():
    made = compared(QUESTION, [answer("1887"), answer("1902")])
    assert made.differences[0].startswith("retrieve (1) says")


def test_many_quotes_of_one_are_counted():
    many = tuple(quote(f"Sentence {n} of it.", n * 100, n) for n in range(1, 8))
    made = compared(QUESTION, [answer("1887"), answer("1887", quote(), *many, reader="memory")])
    assert "4 more quotes are in memory only." in made.differences


def test_three_answers_are_held_against_the_first():
    made = compared(QUESTION, [answer("1887"), answer("1887", reader="memory"), answer("1902", reader="chain")])
    assert not made.agree
    assert any("chain says" in line for line in made.differences)
    assert not any("memory says" in line for line in made.differences)


def test_it_is_plain_json():
    made = compared(QUESTION, [answer("1887"), NOTHING])
    plain = json.loads(json.dumps(comparison_json(made)))
    assert plain["agree"] is False
    assert [item["reader"] for item in plain["answers"]] == ["retrieve", "memory"]
    assert plain["differences"] == list(made.differences)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=40))
def test_agreement_does_not_depend_on_the_order_and_an_answer_agrees_with_itself(one, two, question):
    first, second = answer(one), answer(two, reader="memory")
    assert compared(question, [first, second]).agree == compared(question, [second, first]).agree
    assert compared(question, [first, answer(one, reader="memory")]).agree
