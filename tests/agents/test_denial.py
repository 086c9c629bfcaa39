"""What a reader makes of a model that says the answer is not in the text, and of replies held to the quotes' words."""

from dataclasses import replace

import pytest
import scripts

from longleaf.agents.denial import AMONG, MARGIN, NOT_IN_TEXT, denied
from longleaf.agents.reader import Ask, Options
from longleaf.agents.registry import readers
from longleaf.agents.run import NOT_FOUND, from_json, to_json
from longleaf.engine.backends.scripted import ScriptedEngine


@pytest.mark.parametrize("reply", [NOT_IN_TEXT, "not in the text", ' "Not in the text!" \n', "NOT  IN THE TEXT"])
def test_a_denial_is_known_by_its_words(reply):
    assert denied(reply)


@pytest.mark.parametrize(
    "reply", ["", "Not in the text, but Zubrow.", "It is not in the text.", "Not in the texts", "In the text"]
)
def test_other_words_are_no_denial(reply):
    assert not denied(reply)


def engine(reader, says, kind=ScriptedEngine):
    """A model that reads as scripted and says `says` at the end."""
    script = getattr(scripts, reader)
    return kind(lambda request: says if request.id == "answer" else script(request), attention=True)


def ask(reader, **options):
    question = scripts.QUESTION if reader == "team" else scripts.QUESTIONS.get(reader, scripts.QUESTION)
    return Ask(question, reader=reader, options=Options(**options))


@pytest.mark.parametrize("reader", list(readers()))
def test_a_denial_is_no_answer(desk, reader):
    document = desk.add(scripts.BOOK)
    answer = desk.with_engine(engine(reader, "not in the text")).ask(ask(reader))

    assert (answer.found, answer.text, answer.claims, answer.quotes) == (False, NOT_FOUND, (), ())
    assert answer.closest
    assert answer.closest[0].document_id == document.id
    assert all(scripts.BOOK[quote.start : quote.end] == quote.text for quote in answer.closest)
    assert answer.coverage.notes[0] == 'the model read the text it was given and said: "not in the text"'
    assert answer.usage.calls > 0
    assert from_json(to_json(answer)) == answer
    assert from_json(desk.deps.runs.get(answer.run_id).answer) == answer


@pytest.mark.parametrize("reader", list(readers()))
def test_other_words_are_an_answer(desk, reader):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(engine(reader, "Zubrow.")).ask(ask(reader))
    assert (answer.found, answer.text, answer.closest) == (True, "Zubrow.", ())


@pytest.mark.parametrize("reader", ["retrieve", "hops", "memory", "chain", "team"])
def test_a_part_that_holds_nothing_is_no_invention(desk, reader):
    """A denial is a fair reply to a part or a passage, and none of its words become memory."""
    desk.add(scripts.BOOK)
    model = ScriptedEngine([NOT_IN_TEXT], cycle=True)
    answer = desk.with_engine(model).ask(ask(reader))
    assert not answer.found
    told = " ".join(answer.coverage.notes[1:])
    assert "dropped" not in told
    assert "not in the text" not in told.casefold()
    version = desk.deps.versions.latest(answer.run_id)
    assert version is None or not any(denied(line.text) for line in version.lines)


def test_a_summary_is_not_denied(desk):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(ScriptedEngine([NOT_IN_TEXT], cycle=True)).ask(ask("memory", task="summary"))
    assert answer.found
    assert answer.claims


HELD = ("retrieve", "direct", "kv", "memory", "chain", "structured", "attention", "hops", "clarify", "team")


@pytest.mark.parametrize("reader", HELD)
def test_the_last_wording_can_be_held_to_the_text(desk, reader):
    desk.add(scripts.BOOK)
    model = engine(reader, "Zubrow")
    desk.with_engine(model).ask(ask(reader, copy_spans="always"))
    last = model.requests[-1]
    assert last.id == "answer"
    held = last.sampling.grammar
    assert (held.kind, held.otherwise) == ("span", (NOT_IN_TEXT,))
    assert (held.margin, held.among) == (MARGIN, AMONG)
    assert " ".join(scripts.SENTENCE.split()) in held.source
    assert held.source in last.messages[-1].content or reader == "structured"


class Free(ScriptedEngine):
    """A model that cannot be held to a grammar."""

    @property
    def card(self):
        return replace(super().card, capabilities=frozenset({"scores_context", "reads_documents"}))


@pytest.mark.parametrize("reader", HELD)
def test_it_is_free_without_the_option_or_the_capability(desk, reader):
    desk.add(scripts.BOOK)
    for model, copy in ((engine(reader, "Zubrow"), "never"), (engine(reader, "Zubrow", Free), "always")):
        desk.with_engine(model).ask(ask(reader, copy_spans=copy))
        assert model.requests[-1].id == "answer"
        assert model.requests[-1].sampling.grammar is None


class Taught(ScriptedEngine):
    """A model that was taught to answer in the text's own words."""

    @property
    def card(self):
        card = super().card
        return replace(card, capabilities=card.capabilities | {"abstains", "grammar"})


@pytest.mark.parametrize(("question", "otherwise"), [(None, ()), ("Is Zubrow a town?", ("yes", "no"))])
def test_a_model_that_was_taught_to_is_held_unless_told_otherwise(desk, question, otherwise):
    desk.add(scripts.BOOK)
    model = engine("retrieve", "Zubrow", Taught)
    given = ask("retrieve") if question is None else replace(ask("retrieve"), question=question)
    desk.with_engine(model).ask(given)
    last = model.requests[-1]
    assert last.id == "answer"
    assert last.sampling.grammar.otherwise == (NOT_IN_TEXT, *otherwise)
    free = engine("retrieve", "Zubrow", Taught)
    desk.with_engine(free).ask(replace(given, options=replace(given.options, copy_spans="never")))
    assert free.requests[-1].sampling.grammar is None
