import json

import pytest
from failures import counted, kind_of
from items import Items
from probes import asked, lacking, made, paragraphs, request, xquad

from longleaf.agents.denial import AMONG, MARGIN, NOT_IN_TEXT
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Grammar

ARTICLES = {
    "a": ["The mill of Zubrow burned in 1887.", "The mill of Zubrow stood by the river Lutz.", "Rye grew here."],
    "b": ["Whales sing.", "Whales swim in 1887 ways.", "Whales are large."],
}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "xquad_en"
    folder.mkdir()
    rows = [
        {"doc_id": "a", "question": "When did the mill of Zubrow burn?", "answers": ["1887"], "paragraph": 0},
        {"doc_id": "b", "question": "What do whales do?", "answers": ["sing"], "paragraph": 0},
    ]
    documents = [{"doc_id": key, "text": "\n\n".join(parts)} for key, parts in ARTICLES.items()]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "qa.jsonl").write_text("\n".join(json.dumps({**row, "answer_start": 0}) for row in rows))
    return tmp_path


def test_gold_paragraphs_answer(data):
    for probe in paragraphs(xquad(data), 10):
        assert probe.golds[0] in probe.text
        assert probe.text in [part for article in ARTICLES.values() for part in article]


def test_what_lacks_the_answer_lacks_it_and_a_near_miss_is_of_the_same_article(data):
    found = {(probe.kind, probe.question): probe for probe in lacking(xquad(data), 10)}
    assert len(found) == 4
    near = found["near miss", "When did the mill of Zubrow burn?"]
    assert near.text == ARTICLES["a"][1]  # it shares more words than the other
    far = found["other article", "When did the mill of Zubrow burn?"]
    assert far.text in ARTICLES["b"]
    assert "1887" not in far.text
    assert not any(probe.golds for probe in found.values())


def test_probes_are_asked_in_the_prompts_of_the_readers(data):
    probe = paragraphs(xquad(data), 1)[0]
    message = request(probe, "x").messages[-1].content
    assert message.index("<text>") < message.index(probe.text) < message.index("</text>")
    assert message.endswith(f"Question: {probe.question}")
    assert request(probe, "x").sampling.grammar is None
    held = request(probe, "x", held=True).sampling.grammar
    assert held == Grammar.span(probe.text, (NOT_IN_TEXT,), MARGIN, AMONG)


def test_rows_come_in_order_whatever_the_order_of_replies(data):
    class Late(ScriptedEngine):
        def generate(self, requests):
            events = list(super().generate(requests))
            return iter(sorted(events, key=lambda event: -int(event.request_id)))

    probes = paragraphs(xquad(data), 2) + lacking(xquad(data), 2)
    rows = asked(Late(lambda request: request.messages[-1].content.rpartition("Question: ")[2]), probes)
    assert [row["reply"] for row in rows] == [probe.question for probe in probes]


def test_a_failed_call_is_a_row(data):
    (row,) = asked(ScriptedEngine(["x"], window=4), paragraphs(xquad(data), 1))
    assert (row["reply"], kind_of(row)) == ("", "the call failed")


@pytest.mark.parametrize(
    ("reply", "golds", "kind"),
    [
        ("1887", ["1887"], None),
        ("It burned in 1887.", ["1887"], "the answer within more words"),
        ("Not in the text.", ["1887"], "denies an answer that is there"),
        ("Not in the text.", [], None),
        ("The text does not mention it.", [], "refuses in other words"),
        ("Zubrow", [], "another span of the text"),
        ("Zubrow", ["1887"], "another span of the text"),
        ("Paris", ["1887"], "words that stand nowhere in the text"),
        ("in the May of 1887 or so", ["May 1887"], "part of the answer, or other words beside it"),
        ("", ["1887"], "says nothing"),
    ],
)
def test_failures_have_their_kind(reply, golds, kind):
    from probes import Probe, _row

    row = _row(Probe("paragraph", "xquad", 0, "When?", ARTICLES["a"][0], tuple(golds)), reply, "end")
    assert kind_of(row) == kind


def test_failures_are_counted_by_model_with_examples_of_the_last(data):
    probes = paragraphs(xquad(data), 2)
    rows = [
        row | {"model": model}
        for model, says in (("before", "a | b"), ("after", "sing"))
        for row in asked(ScriptedEngine([says]), probes)
    ]
    table = counted(rows, ["before", "after"])
    assert "| paragraph, xquad | words that stand nowhere in the text | 2 of 2 | 1 of 2 |" in table
    assert "a \\| b" not in table
    assert counted([row for row in rows if not kind_of(row)], ["after"]) == "No failures."


def test_items_become_probes(data):
    (data / "haystack_texts").mkdir()
    prose = "\n\n".join(f"Paragraph {n} tells of whales and ends with ships." for n in range(400))
    (data / "haystack_texts" / "herman-melville_moby-dick.txt").write_text(prose)
    found = made(Items(data, lambda texts: [len(text.split()) for text in texts]), "keys", ["keys", "fact"], 1024, 3)
    assert [probe.kind for probe in found] == ["keys"] * 3 + ["fact"] * 3
    assert all(probe.golds[0] in probe.text for probe in found)
