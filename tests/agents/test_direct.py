"""`direct`: the whole text at once, or a refusal that says why."""

import pytest

from longleaf.agents.prompt import hashes
from longleaf.agents.reader import Ask, QuoteFound, Reading, Wording
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.errors import WindowExceeded

BOOK = "The capital of Freedonia is Zubrow. It lies on the Lutz.\n\n" + "Wheat grew on the farm. " * 60
ASK = Ask("What is the capital of Freedonia?", reader="direct")


def test_a_text_that_fits_is_read_whole(desk):
    desk.add(BOOK)
    engine = ScriptedEngine(["Zubrow is the capital."])
    working = desk.with_engine(engine)
    answer = working.ask(ASK)

    assert BOOK.strip() in engine.requests[0].messages[-1].content
    assert answer.text == "Zubrow is the capital."
    assert answer.quotes[0].text == "The capital of Freedonia is Zubrow."
    assert all(BOOK[quote.start : quote.end] == quote.text for quote in answer.quotes)
    assert answer.coverage.read == answer.coverage.total == len(BOOK)
    kinds = list(dict.fromkeys(type(event) for event in working.events))
    assert kinds == [Reading, Wording, QuoteFound]
    assert desk.deps.runs.get(answer.run_id).prompt_hashes == hashes(("direct",))


def test_a_text_that_does_not_fit_is_refused_with_numbers_and_a_way_out(desk):
    desk.add(BOOK)
    engine = ScriptedEngine(["Zubrow"], window=300)
    tokens = engine.count(BOOK.strip())

    with pytest.raises(WindowExceeded) as refused:
        desk.with_engine(engine).ask(ASK)

    for part in (str(tokens), "300", "--reader retrieve"):
        assert part in str(refused.value)
    assert engine.requests == []
    assert desk.deps.runs.list()[0].status == "failed"


def test_a_long_question_counts_wherever_the_prompt_states_it(desk):
    desk.add(BOOK)
    engine = ScriptedEngine(["Zubrow"])
    long = Ask("What is the capital of Freedonia, " + "if I may ask, " * 200 + "please?", reader="direct")
    once = engine.count(BOOK.strip()) + engine.count(long.question) + long.budget.answer_tokens + 200
    tight = ScriptedEngine(["Zubrow"], window=once)

    with pytest.raises(WindowExceeded):
        desk.with_engine(tight).ask(long)
    assert tight.requests == []
    roomy = ScriptedEngine(["Zubrow"], window=once + engine.count(long.question))
    assert desk.with_engine(roomy).ask(long).text == "Zubrow"


def test_a_model_that_says_nothing_has_found_nothing(desk):
    desk.add(BOOK)
    answer = desk.with_engine(ScriptedEngine([""])).ask(ASK)
    assert (answer.found, answer.text, answer.quotes) == (False, "Not found in the document.", ())


def test_several_documents_are_read_in_the_order_given(desk):
    first, second = desk.add("Alpha comes first here."), desk.add("Beta comes second here.", "other.txt")
    engine = ScriptedEngine(["Alpha"])
    desk.with_engine(engine).ask(Ask("What comes first here?", (second.id, first.id), "direct"))

    content = engine.requests[0].messages[-1].content
    assert 0 <= content.index("Beta") < content.index("Alpha")
