import json

import pytest
from items import FACTS, GOLD, ROOM, Items, babi_questions, plant

TASKS = ("needle", "keys", "fact", "hotpot", "qa1")


def count(texts):
    return [len(text.split()) for text in texts]


@pytest.fixture
def data(tmp_path):
    book = "\n\n".join(
        f"Paragraph {n} of the book tells of whales. It ends with the sea and ships." for n in range(900)
    )
    (tmp_path / "haystack_texts").mkdir()
    (tmp_path / "haystack_texts" / "herman-melville_moby-dick.txt").write_text(book)
    hotpot = tmp_path / "hotpotqa"
    hotpot.mkdir()
    pool = [{"title": f"Thing {n}", "text": f"Thing {n} is a thing of {n} parts. It is old."} for n in range(800)]
    rows = [
        {
            "question": f"Of how many parts is thing {n}?",
            "answers": [str(n)],
            "supporting_titles": [f"Thing {n}", f"Thing {n + 1}"],
            "paragraphs": pool[n : n + 10],
        }
        for n in range(5)
    ]
    for name, lines in (("paragraph_pool", pool), ("dev_distractor", rows)):
        (hotpot / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "babi" / "en").mkdir(parents=True)
    story = "1 Mary moved to the bathroom.\n2 John went to the hallway.\n3 Where is Mary? |bathroom|1\n"
    again = "1 Daniel went to the garden.\n2 Where is Daniel? \tgarden\t1\n"
    (tmp_path / "babi" / "en" / "qa1_single-supporting-fact_train.txt").write_text(story + again)
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [GOLD, 0, 2048, 8192])
def test_an_item_is_the_same_when_made_again_and_its_evidence_answers(data, task, length):
    item = Items(data, count).make(task, length, 1)
    assert item == Items(data, count).make(task, length, 1)
    assert any(item.golds[0] in item.text[start:end] for start, end in item.evidence)
    if length > 0:
        assert 0.8 * (length - ROOM) < count([item.text])[0] <= length - ROOM


@pytest.mark.parametrize("task", TASKS)
def test_the_question_does_not_depend_on_the_length(data, task):
    items = Items(data, count)
    made = [items.make(task, length, 0) for length in (GOLD, 0, 2048)]
    assert len({(item.question, item.golds) for item in made}) == 1
    assert len({item.key for item in made}) == 3 or task == "needle"


def test_seeds_and_numbers_give_other_needles(data):
    made = {Items(data, count, seed).make("needle", 2048, number).golds for seed in (0, 1) for number in range(5)}
    assert len(made) == 10


def test_gold_documents_hold_the_evidence_alone(data):
    items = Items(data, count)
    item = items.make("hotpot", GOLD, 0)
    assert len(item.headings) == len(item.evidence) == 2
    assert len(items.make("hotpot", 0, 0).headings) == 10
    qa = items.make("qa1", GOLD, 0)
    assert [qa.text[start:end] for start, end in qa.evidence] == [qa.text]


def test_keys_compete_with_others_of_their_form(data):
    for number in range(30):
        item = Items(data, count).make("keys", 4096, number)
        said = [line for line in item.text.split("\n") if "magic numbers" in line]
        numbers = [word for line in said for word in line.split() if word.rstrip(".").isdigit() and len(word) > 6]
        names = [word for line in said for word in line.split() if "-" in word]
        assert len(names) == len(set(names)) == FACTS
        assert sum(word.rstrip(".") == item.golds[0] for word in numbers) == 1


def test_a_fact_has_distractors_of_its_form_with_other_answers(data):
    item = Items(data, count).make("fact", 4096, 2)
    start, end = item.evidence[0]
    opening = " ".join(item.text[start:end].split()[:3])
    assert item.text.count(opening) == FACTS
    assert item.text.count(item.golds[0]) == 1


def test_needles_of_twenty_items_lie_evenly(data):
    items = Items(data, count)
    made = [items.make("needle", 4096, number) for number in range(20)]
    tenths = sorted(int(10 * item.evidence[0][0] / len(item.text)) for item in made)
    assert tenths[0] == 0
    assert tenths[-1] == 9
    assert len(set(tenths)) >= 9


def test_headings_of_hotpot_documents_are_titles(data):
    item = Items(data, count).make("hotpot", 2048, 0)
    assert all(
        item.text[start:end].startswith("Thing ") and "." not in item.text[start:end] for start, end in item.headings
    )


def test_planted_sentences_stand_at_sentence_ends_and_keep_the_rest():
    text = "First came the whale. Then the sea rose. Last Mr. Starbuck spoke."
    planted, spans = plant(text, ["One.", "Two."], [0.1, 0.4])
    assert [planted[start:end] for start, end in spans] == ["One.", "Two."]
    assert planted == "First came the whale. One. Then the sea rose. Two. Last Mr. Starbuck spoke."
    at_end, spans = plant(text, ["Three."], [0.99])
    assert at_end[slice(*spans[0])] == "Three."
    assert at_end.startswith(text)


def test_babi_facts_are_those_said_before_the_question(data):
    first, second = babi_questions(data / "babi" / "en" / "qa1_single-supporting-fact_train.txt")
    assert first.facts == ("Mary moved to the bathroom.", "John went to the hallway.")
    assert (first.question, first.answer, first.supporting) == ("Where is Mary?", "bathroom", (0,))
    assert (second.facts, second.answer) == (("Daniel went to the garden.",), "garden")


def test_filler_that_is_too_short_is_said(data):
    with pytest.raises(SystemExit, match="hold"):
        Items(data, count).make("needle", 1_000_000, 0)
