"""`attention`: the best sentences are carried from window to window, whole, and the answer rests on them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.agents.errors import CapabilityMissing
from longleaf.agents.reader import Ask, Budget, QuoteFound, Reading, Wording
from longleaf.agents.run import NOT_FOUND
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Scores

NEEDLE = "The capital of Freedonia is Zubrow."
QUESTION = "What is the capital of Freedonia?"
BUDGET = Budget(part_tokens=40, quotes=3)


def book(depth, farms=80):
    lines = [f"Farm {n} grew wheat, barley and rye on {n + 10} acres of good land." for n in range(farms)]
    lines.insert(int(depth * farms), NEEDLE)
    return " ".join(lines)


def ask(**options):
    return Ask(QUESTION, reader="attention", budget=BUDGET, **options)


def model(says="It is Zubrow", **options):
    return ScriptedEngine([says], attention=True, **options)


def scans(desk, answer):
    return [step for step in desk.deps.runs.steps(answer.run_id) if step.node == "scan"]


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1))
def test_a_sentence_is_found_wherever_it_stands(desk, depth):
    document = desk.add(book(depth))
    answer = desk.with_engine(model()).ask(ask(document_ids=(document.id,)))

    first = answer.quotes[0]
    assert (first.text, first.by, first.status) == (NEEDLE, "model", "verified")
    assert answer.text == "It is Zubrow"
    assert answer.coverage.read == answer.coverage.total
    assert len(scans(desk, answer)) > 3


def test_what_is_carried_stands_whole_before_the_next_window_in_reading_order(desk, monkeypatch):
    desk.add(book(0.1))
    seen = []
    scored = ScriptedEngine.score_context

    def watched(self, question, context, **options):
        seen.append(list(context))
        return scored(self, question, context, **options)

    monkeypatch.setattr(ScriptedEngine, "score_context", watched)
    desk.with_engine(model()).ask(ask())

    place = next(index for index, units in enumerate(seen) if NEEDLE in units)
    assert all(NEEDLE in units for units in seen[place:])
    text = book(0.1)
    for units in seen:
        assert all(unit in text for unit in units)
        at = [text.index(unit) for unit in units]
        assert at == sorted(at), "the text's own order"


def test_the_longest_document_needs_no_wider_window(desk):
    desk.add(book(0.5, farms=400))
    answer = desk.with_engine(model(window=300)).ask(ask())
    assert answer.quotes[0].text == NEEDLE
    assert max(step.prompt_tokens for step in scans(desk, answer)) <= 300


def test_events_come_in_order(desk):
    desk.add(book(0.5))
    working = desk.with_engine(model())
    answer = working.ask(ask())
    kinds = [type(event) for event in working.events]
    assert list(dict.fromkeys(kinds)) == [Reading, QuoteFound, Wording]
    assert kinds == sorted(kinds, key=[Reading, QuoteFound, Wording].index)
    assert tuple(event.quote for event in working.events if isinstance(event, QuoteFound)) == answer.quotes


def test_what_is_not_there_is_not_found_and_nothing_is_worded(desk):
    desk.add(book(0.5))
    engine = model()
    answer = desk.with_engine(engine).ask(Ask("Who invented jazz trumpets?", reader="attention", budget=BUDGET))
    assert (answer.found, answer.text, engine.requests) == (False, NOT_FOUND, [])
    assert answer.coverage.read == answer.coverage.total


def test_a_model_without_attention_is_refused_with_a_way_out(desk):
    desk.add(book(0.5))
    with pytest.raises(CapabilityMissing, match="--reader retrieve"):
        desk.with_engine(ScriptedEngine(["x"])).ask(ask())


def test_a_closed_iterator_goes_on_where_it_stopped(desk):
    desk.add(book(0.9))
    expected = desk.with_engine(model()).ask(ask())

    events = desk.with_engine(model(delay=0.002)).stream(ask())
    seen = 0
    for event in events:
        seen += isinstance(event, Reading)
        if seen == 4:
            break
    events.close()
    (record, *_) = desk.deps.runs.list()
    before = len(desk.deps.runs.steps(record.id))
    answer = desk.with_engine(model()).resume(record.id)

    assert before >= 3
    assert (answer.text, answer.claims, answer.coverage) == (expected.text, expected.claims, expected.coverage)
    assert len(scans(desk, answer)) == len(scans(desk, expected))


def test_scores_that_say_nothing_still_end_in_checked_quotes(desk, monkeypatch):
    desk.add(book(0.9))
    monkeypatch.setattr(
        ScriptedEngine, "score_context", lambda self, q, units, stop=None: Scores((0.0,) * len(units), (), 1, USAGE)
    )
    answer = desk.with_engine(model()).ask(ask())
    text = desk.deps.shelf.text(desk.deps.documents.list()[0].id)
    assert all(text.characters[quote.start : quote.end] == quote.text for quote in answer.quotes)
    assert answer.found == bool(answer.quotes)


USAGE = model().score_context("x", ["y"]).usage
