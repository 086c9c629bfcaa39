"""Prompt files, their slots and hashes, and the check of a wording against its quotes."""

import hashlib
from importlib import resources

import pytest

from longleaf.agents.prompt import hashes, load
from longleaf.agents.registry import reader, readers
from longleaf.agents.support import unsupported

PROMPTS = sorted({name for item in readers().values() for name in item.prompts})


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_loads_and_fills(name):
    prompt = load(name)
    slots = {"question": "Q-value", "passage": "P-value", "document": "D-value", "quotes": "K-value"}
    messages = prompt.messages(**slots)

    filled = messages[-1].content
    assert messages[-1].role == "user"
    assert "{{" not in filled
    assert "Q-value" in filled
    source = (resources.files("longleaf.agents.prompts") / f"{name}.md").read_bytes()
    assert hashes([name]) == {name: hashlib.sha256(source).hexdigest()}


def test_a_value_is_not_filled_again_and_a_missing_one_is_an_error():
    filled = load("extract").messages(passage="{{question}} \\1 \\g<0>", question="{{passage}}")[-1].content
    assert "{{question}} \\1 \\g<0>" in filled
    assert "{{passage}}" in filled
    with pytest.raises(KeyError):
        load("extract").messages(passage="only this")


def test_readers_go_by_their_names():
    assert {name: reader(name).name for name in readers()} == {"retrieve": "retrieve", "direct": "direct"}


@pytest.mark.parametrize(
    ("wording", "new"),
    [
        ("Zubrow", []),
        ("The capital is Zubrow.", []),
        ("It is Paris.", ["Paris"]),
        ("About 4,000 people.", []),
        ("About 5,000 people.", ["5,000"]),
        ("About 4 people.", ["4"]),
        ("It has 000 people.", ["000"]),
        ("Freedonia's capital.", []),
        ("In Freedonia's north lies Zubrow's bridge.", []),
        ("He said 'Zubrow'.", []),
        ("Somewhere near Élancourt.", ["Élancourt"]),
        ("Nothing. Everything is fine.", []),
        ("It lies in zubrow, Zubrow and Zub.", ["Zub"]),
        ("It is Paris, in Paris.", ["Paris"]),
        ("", []),
    ],
)
def test_new_figures_and_names_are_told(wording, new):
    quotes = ["The capital of Freedonia is Zubrow.", "Some 4,000 people live in it."]
    assert unsupported(wording, quotes, "What is the capital?") == new


def test_a_name_of_the_question_is_not_new():
    assert unsupported("It is Paris.", ["He lived there."], "Did he live in Paris?") == []
