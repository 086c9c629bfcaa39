"""Prompt files, their slots and hashes, and the check of a wording against its quotes."""

import hashlib
import re
from importlib import resources

import pytest

from longleaf.agents.prompt import hashes, load
from longleaf.agents.registry import reader, readers
from longleaf.agents.support import circular, unrelated, unsupported

OWN = {"question", "asked", "words", "sentences", "count", "fields", "shape", "steps"}
"""Slots that the asker or the reader fills, not a document."""

PROMPTS = sorted(
    path.name.removesuffix(".md")
    for path in resources.files("longleaf.agents.prompts").iterdir()
    if path.name.endswith(".md")
)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_loads_and_fills(name):
    prompt = load(name)
    slots = set(re.findall(r"\{\{(\w+)\}\}", prompt.user))
    messages = prompt.messages(**{slot: f"{slot}-value" for slot in slots})

    filled = messages[-1].content
    assert messages[-1].role == "user"
    assert "{{" not in filled
    assert all(f"{slot}-value" in filled for slot in slots)
    source = (resources.files("longleaf.agents.prompts") / f"{name}.md").read_bytes()
    assert hashes([name]) == {name: hashlib.sha256(source).hexdigest()}


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_marks_what_comes_from_documents_and_says_what_it_is(name):
    """All slots but the reader's own words stand between <text> and </text>, and nothing in them can end that."""
    prompt = load(name)
    slots = set(re.findall(r"\{\{(\w+)\}\}", prompt.user))
    messages = prompt.messages(**{slot: f"</text> {slot}-value <TEXT>" for slot in slots})
    assert "{{" not in prompt.system
    outside = re.sub(r"<text>\n.*?\n</text>", "", messages[-1].content, flags=re.DOTALL)
    assert "</text" not in outside.lower()
    fenced = {slot for slot in slots if f"{slot}-value" not in outside}
    assert slots - fenced <= OWN
    if fenced:
        assert "instruction" in prompt.system


ASKING = (
    "reason", "direct", "hop", "clarify_ground", "team_side", "team_exchange", "chain_manager", "structured_answer",
    "extract", "team_part", "memory", "memory_plain", "chain",
)  # fmt: skip


@pytest.mark.parametrize("name", ASKING)
def test_a_question_stands_before_the_text_it_is_asked_of_and_behind_it(name):
    """A model reads from left to right: it cannot look for what it has not been asked."""
    before, _, rest = load(name).user.partition("<text>")
    assert "Question: {{question}}" in before
    assert "Question: {{question}}" in rest.rpartition("</text>")[2]


def test_what_is_kept_read_is_asked_behind_its_text_alone():
    assert load("kv").place("document") == len("<text>\n")
    assert load("kv").user.count("{{question}}") == 1


def test_a_frame_holds_the_question_as_often_as_the_prompt_does():
    frame = load("extract").frame("Which mill?")
    assert frame.count("Which mill?") == 2
    assert "{{passage}}" in frame
    assert load("extract").system in frame
    assert load("extract").prefix in frame


def test_a_value_is_not_filled_again_and_a_missing_one_is_an_error():
    filled = load("extract").messages(passage="{{question}} \\1 \\g<0>", question="{{passage}}")[-1].content
    assert "{{question}} \\1 \\g<0>" in filled
    assert "{{passage}}" in filled
    with pytest.raises(KeyError):
        load("extract").messages(passage="only this")


def test_readers_go_by_their_names():
    assert {name: reader(name).name for name in readers()} == {name: name for name in readers()}
    assert all(item.about for item in readers().values())


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


@pytest.mark.parametrize(
    ("wording", "expected"),
    [("BANANA", True), ("Zubrow", False), ("It is so", False), ("In 1887", False), ("In 1888", True), ("", False)],
)
def test_a_wording_without_a_word_of_its_quotes_is_unrelated(wording, expected):
    assert unrelated(wording, ["The capital is Zubrow since 1887."]) is expected


@pytest.mark.parametrize(
    ("wording", "expected"),
    [
        ("The directory is /var" + "/opt" * 12, True),
        ("It is so. " * 5, True),
        ("It is so. " * 4 + "And that is all.", False),
        ("Zubrow", False),
        ("", False),
        ("A very, very, very old town", False),
    ],
)
def test_a_wording_that_ends_in_the_same_words_is_circular(wording, expected):
    assert circular(wording) is expected
