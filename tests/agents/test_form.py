"""Forms: which one fits a question, and what is an edit of it, whatever a model sends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.agents.errors import SchemaUnknown
from longleaf.agents.form import (
    EDITS,
    Edit,
    described,
    edit_schema,
    edits,
    form,
    form_schema,
    forms,
    generated,
    plain,
    restored,
)
from longleaf.engine.contract import Grammar
from longleaf.engine.grammar import Check

PEOPLE = forms()["people"]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Who built the bridge?", "people"),
        ("When was the king crowned?", "events"),
        ("In which year did the mill burn?", "events"),
        ("What year did the mill burn?", "events"),
        ("How many people live in Zubrow?", "figures"),
        ("What is the capital of Freedonia?", "facts"),
        ("Whoever wrote this, what is it about?", "facts"),
    ],
)
def test_a_question_chooses_its_form_by_its_words(question, name):
    assert form("auto", question, "answer").name == name
    assert form("facts", question, "answer").name == "facts"
    assert form("auto", question, "summary").name == "summary"


def test_an_unknown_schema_names_those_there_are():
    with pytest.raises(SchemaUnknown, match=r"auto, generate, facts, people"):
        form("poems", "Who?", "answer")


def reply(*items):
    return json.dumps({"edits": [dict(zip(("field", "key", "value"), item, strict=True)) for item in items]})


def test_edits_are_read_from_a_reply():
    assert edits(reply(("people", "Anna", "built the bridge")), PEOPLE) == [Edit("people", "Anna", "built the bridge")]
    assert edits(reply(), PEOPLE) == []


def test_a_reply_that_was_cut_gives_the_edits_that_are_whole():
    whole = reply(("people", "Anna", "built the bridge"), ("facts", "bridge", "is of stone"))
    for end in range(len(whole)):
        found = edits(whole[:end], PEOPLE)
        assert found is None or found == edits(whole, PEOPLE)[: len(found)]
    assert len(edits(whole[: whole.rindex("}")], PEOPLE)) == 2
    assert len(edits(whole[: whole.rindex("stone")], PEOPLE)) == 1


def test_what_is_no_edit_of_the_form_is_passed_over():
    sent = reply(("poems", "Anna", "x"), ("people", " ", "x"), ("people", "Anna", "..."), ("people", "B:  C", "d\n e"))
    assert edits(sent, PEOPLE) == [Edit("people", "B C", "d e")]
    assert edits("I am sorry, I cannot do that.", PEOPLE) is None
    assert edits('{"field": 1, "key": [], "value": null}', PEOPLE) is None
    assert len(edits(reply(*(("people", f"P{n}", "x") for n in range(9))), PEOPLE)) == EDITS
    long = edits(reply(("people", "k" * 500, "v" * 5000)), PEOPLE)[0]
    assert len(long.key) <= 40
    assert len(long.value) <= 160


@given(st.text(st.sampled_from('{}[]":,\\ \n' + "fieldkeyvalue"), max_size=80))
def test_no_reply_can_break_the_reading(text):
    found = edits(text, PEOPLE)
    assert found is None or all(edit.field in ("people", "facts") for edit in found)
    generated(text)


NAMES = st.from_regex(r"[^\"\\{}\n\r\t:]{1,40}", fullmatch=True).filter(
    lambda text: text.isprintable() and text.strip()
)


@given(st.lists(st.tuples(st.sampled_from(["people", "facts"]), NAMES, NAMES), max_size=3))
def test_the_schema_lets_through_what_is_read_as_edits(items):
    sent = reply(*items)
    assert Check(Grammar.json_schema(edit_schema(PEOPLE))).whole(sent)
    assert len(edits(sent, PEOPLE)) == sum(any(letter.isalnum() for letter in value) for _, _, value in items)


@pytest.mark.parametrize(
    "sent",
    [
        reply(("poems", "Anna", "x")),
        reply(("people", "", "x")),
        reply(("people", "Anna", 'say "yes"')),
        reply(*(("people", f"P{n}", "x") for n in range(EDITS + 1))),
        '{"edits": [{"field": "people", "key": "Anna"}]}',
        "[]",
    ],
)
def test_the_schema_lets_nothing_else_through(sent):
    assert not Check(Grammar.json_schema(edit_schema(PEOPLE))).whole(sent)


def test_a_form_that_the_model_makes():
    sent = '{"fields": [{"name": "ships", "holds": "a ship: where it sails"}, {"name": "ports", "holds": "a port"}]}'
    assert Check(Grammar.json_schema(form_schema())).whole(sent)
    made = generated(sent)
    assert [field.name for field in made.fields] == ["ships", "ports"]
    assert described(made) == "- ships: a ship: where it sails\n- ports: a port"
    assert edits(reply(("ships", "Ann", "sails south")), made) == [Edit("ships", "Ann", "sails south")]
    assert restored(plain(made)).fields == made.fields
    assert generated("no fields at all") is None
    assert generated('{"fields": [{"name": "Not A Name!", "holds": "x"}]}') is None
