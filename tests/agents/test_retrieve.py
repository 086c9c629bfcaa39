"""`retrieve`: what the model copies is checked, what it invents is dropped, and what is not there is not found."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.agents.errors import NothingToRead, QuestionEmpty, ReaderUnknown
from longleaf.agents.prompt import hashes
from longleaf.agents.reader import Ask, Budget, Options, QuoteFound, Reading, Wording
from longleaf.agents.registry import reader
from longleaf.agents.run import NOT_FOUND, from_json, to_json
from longleaf.engine.backends.scripted import Failures, ScriptedEngine
from longleaf.engine.contract import Scores, Usage
from longleaf.engine.errors import EngineFailed
from longleaf.memory.errors import DocumentMissing

BOOK = (
    "The capital of Freedonia is Zubrow. It lies on the river Lutz, and 4,000 people live in it.\n\n"
    "The king was crowned in 1887. He was not loved by the farmers of the north. He built the bridge.\n\n"
    + "".join(f"Farm {n} grew wheat, barley and rye on {n + 10} acres of good land. " for n in range(40))
)
QUESTION = "What is the capital of Freedonia?"
SENTENCE = "The capital of Freedonia is Zubrow."


def is_extract(request):
    return request.id.startswith("passage-")


def model(*, copies="", says="Zubrow", **options):
    """Copies `copies` from each passage and then says `says`."""
    return ScriptedEngine(lambda request: copies if is_extract(request) else says, **options)


@pytest.fixture
def book(desk):
    desk.add(BOOK, "book.txt")
    return desk


def assert_verbatim(desk, answer):
    for quote in answer.quotes:
        text = desk.deps.shelf.text(quote.document_id)
        assert text.characters[quote.start : quote.end] == quote.text
        assert text.page_at(quote.start).number == quote.page


def test_what_the_model_copies_is_a_quote_by_the_model(book):
    answer = book.with_engine(model(copies=SENTENCE)).ask(QUESTION)

    first = answer.quotes[0]
    assert (first.text, first.by, first.status, first.page) == (SENTENCE, "model", "verified", 1)
    assert (answer.text, answer.found, answer.reader) == ("Zubrow", True, "retrieve")
    assert (answer.claims[0].text, answer.claims[0].quotes) == ("Zubrow", answer.quotes)
    assert 0.38 <= answer.claims[0].confidence <= 1
    assert_verbatim(book, answer)


@pytest.mark.parametrize(
    "copies", ["capital of Freedonia is Zubrow", "the CAPITAL of  freedonia", "“Freedonia is Zubrow.”"]
)
def test_a_part_of_a_sentence_is_shown_as_the_whole_sentence(book, copies):
    first = book.with_engine(model(copies=copies)).ask(QUESTION).quotes[0]
    assert (first.text, first.by) == (SENTENCE, "model")


def test_what_the_model_invents_is_dropped_and_said(book):
    answer = book.with_engine(model(copies="The capital of Freedonia has always been Paris in France.")).ask(QUESTION)

    assert answer.quotes[0].text == SENTENCE
    assert {quote.by for quote in answer.quotes} == {"search"}
    assert any("not in the text; dropped" in note for note in answer.coverage.notes)
    assert "Paris" not in str(answer.quotes)
    assert_verbatim(book, answer)


def test_a_model_that_says_nothing_still_gives_a_cited_answer(book):
    answer = book.with_engine(model(copies="", says="")).ask(QUESTION)

    assert answer.text == answer.quotes[0].text == SENTENCE
    assert answer.found


def test_a_quote_of_another_passage_is_shown_where_it_stands(book):
    """The model is asked about one passage and copies from another that was found too."""

    def reply(request):
        if not is_extract(request):
            return "1887"
        return "" if SENTENCE in request.messages[-1].content else SENTENCE

    answer = book.with_engine(ScriptedEngine(reply)).ask(QUESTION)
    (quote,) = [quote for quote in answer.quotes if quote.text == SENTENCE]
    assert (quote.by, quote.status) == ("model", "misattributed")
    assert_verbatim(book, answer)


def test_what_the_text_does_not_answer_is_not_found_and_costs_no_call(book):
    engine = model(copies=SENTENCE)
    answer = book.with_engine(engine).ask("Who invented jazz trumpets?")

    assert (answer.found, answer.text, answer.claims, answer.quotes) == (False, NOT_FOUND, (), ())
    assert NOT_FOUND == "Not found in the document."
    assert engine.requests == []
    assert answer.usage.calls == 0
    assert answer.coverage.read == 0
    record = book.deps.runs.get(answer.run_id)
    assert record.status == "done"
    assert book.deps.runs.claims(answer.run_id) == []


def test_coverage_counts_what_the_model_was_shown(book):
    engine = model(copies=SENTENCE)
    answer = book.with_engine(engine).ask(Ask(QUESTION, budget=Budget(passages=5)))

    shown = "\n".join(request.messages[-1].content for request in engine.requests if is_extract(request))
    assert {part.how for part in answer.coverage.parts} == {"read", "skimmed"}
    for part in answer.coverage.parts:
        passages = [chunk for chunk in book.chunks() if part.start <= chunk.start < part.end]
        assert passages
        for chunk in passages:  # neighbours that went the same way are one part
            assert (part.how == "read") == (BOOK[chunk.start : chunk.end].strip() in shown)
    read = sum(part.end - part.start for part in answer.coverage.parts if part.how == "read")
    assert answer.coverage.read == read
    assert answer.coverage.total == len(BOOK)


def test_a_new_figure_in_the_wording_is_noted(book):
    answer = book.with_engine(model(copies=SENTENCE, says="Zubrow, with 70,000 people")).ask(QUESTION)
    assert any("70,000" in note for note in answer.coverage.notes)


def test_events_come_in_order_and_add_up_to_the_answer(book):
    says = "  The capital is Zubrow on the Lutz. "
    working = book.with_engine(model(copies=SENTENCE, says=says))
    answer = working.ask(QUESTION)

    kinds = [type(event) for event in working.events]
    assert list(dict.fromkeys(kinds)) == [Reading, QuoteFound, Wording]
    assert kinds == sorted(kinds, key=[Reading, QuoteFound, Wording].index)
    reading = [event for event in working.events if isinstance(event, Reading)]
    assert [event.chunk for event in reading] == list(range(1, reading[0].of + 1))
    assert tuple(event.quote for event in working.events if isinstance(event, QuoteFound)) == answer.quotes
    assert "".join(event.text for event in working.events if isinstance(event, Wording)).strip() == answer.text


NEXT = "It lies on the river Lutz, and 4,000 people live in it."


@pytest.mark.parametrize("quotes", [1, 3])
def test_a_sentence_beside_a_quote_that_holds_the_wording_is_quoted_first(book, quotes):
    working = book.with_engine(model(copies=SENTENCE, says="4,000 people"))
    answer = working.ask(Ask(QUESTION, budget=Budget(quotes=quotes), reader="retrieve"))
    assert (answer.quotes[0].text, answer.quotes[0].by, answer.quotes[0].status) == (NEXT, "model", "verified")
    assert len(answer.quotes) == quotes
    assert answer.quotes[0] in [event.quote for event in working.events if isinstance(event, QuoteFound)]
    assert not any("do not" in note for note in answer.coverage.notes)
    assert_verbatim(book, answer)


@pytest.mark.parametrize("says", ["Zubrow", "yes", "no", "000 people", "4,000 people, most of them farmers"])
def test_no_quote_is_added_for_a_wording_that_a_quote_holds_or_no_sentence_does(book, says):
    asked = Ask(QUESTION, budget=Budget(quotes=1), reader="retrieve")
    assert [quote.text for quote in book.with_engine(model(copies=SENTENCE, says=says)).ask(asked).quotes] == [SENTENCE]


def test_a_failure_that_passes_is_tried_again_and_told(book):
    failing = {"passage-0", "answer"}

    def reply(request):
        if request.id in failing:
            failing.remove(request.id)
            raise EngineFailed("the line was busy", transient=True)
        return SENTENCE if is_extract(request) else "Zubrow"

    answer = book.with_engine(ScriptedEngine(reply)).ask(QUESTION)

    assert answer.text == "Zubrow"
    steps = book.deps.runs.steps(answer.run_id)
    told = [(step.node, step.attempt, step.status) for step in steps]
    assert ("extract", 1, "failed") in told
    assert ("extract", 2, "done") in told
    assert told[-2:] == [("reason", 1, "failed"), ("reason", 2, "done")]
    assert "busy" in next(step.error for step in steps if step.status == "failed")
    # Only what failed is asked again.
    assert [step.attempt for step in steps if step.node == "extract"].count(2) == 1


@pytest.mark.parametrize("transient", [True, False])
def test_a_failure_that_stays_fails_the_run_and_keeps_its_steps(book, transient):
    engine = model(failures=Failures(1.0, transient=transient))
    with pytest.raises(EngineFailed):
        book.with_engine(engine).ask(QUESTION)

    (record,) = book.deps.runs.list()
    assert record.status == "failed"
    assert "a failure that the script asked for" in record.stop_reason
    steps = book.deps.runs.steps(record.id)
    assert max(step.attempt for step in steps) == (3 if transient else 1)
    assert {step.status for step in steps} == {"failed"}


def test_a_failed_run_can_be_resumed(book):
    with pytest.raises(EngineFailed):
        book.with_engine(model(failures=Failures(1.0, transient=False))).ask(QUESTION)
    (record,) = book.deps.runs.list()

    answer = book.with_engine(model(copies=SENTENCE)).resume(record.id)

    assert (answer.text, answer.quotes[0].by) == ("Zubrow", "model")
    assert book.deps.runs.get(record.id).status == "done"


def test_a_fault_of_our_own_is_recorded_too(book):
    def reply(request):
        raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError):
        book.with_engine(ScriptedEngine(reply)).ask(QUESTION)
    (record,) = book.deps.runs.list()
    assert (record.status, record.stop_reason) == ("failed", "ZeroDivisionError: oops")


def checkpoint_rows(desk, run_id):
    with desk.database.session() as session:
        connection = session.connection()
        rows = []
        for table in ("checkpoints", "writes"):
            query = f"SELECT * FROM {table} WHERE thread_id = '{run_id}'"
            rows += connection.exec_driver_sql(query).fetchall()
    return rows


def test_checkpoints_hold_no_text_of_documents_and_go_at_the_end(book):
    book.with_engine(ScriptedEngine(lambda request: SENTENCE if is_extract(request) else _fail())).ask(QUESTION)
    (record,) = book.deps.runs.list()

    kept = checkpoint_rows(book, record.id)
    assert kept
    held = b"".join(value if isinstance(value, bytes) else str(value).encode() for row in kept for value in row)
    assert record.id.encode() in held
    for word in (b"Zubrow", b"Lutz", b"wheat", b"1887"):
        assert word not in held

    book.with_engine(model()).resume(record.id)
    assert checkpoint_rows(book, record.id) == []


def _fail():
    raise EngineFailed("no more")


def test_an_error_after_something_was_read_gives_that_marked_partial(book):
    answer = book.with_engine(ScriptedEngine(lambda request: SENTENCE if is_extract(request) else _fail())).ask(
        QUESTION
    )

    assert (answer.partial, answer.found, answer.text) == (True, True, SENTENCE)
    assert answer.coverage.notes[0] == "the reading ended early: no more"
    assert answer.coverage.read > 0
    assert_verbatim(book, answer)
    (record,) = book.deps.runs.list()
    assert (record.status, record.stop_reason) == ("failed", "no more")
    assert from_json(record.answer) == answer
    whole = book.with_engine(model(copies=SENTENCE)).resume(record.id)
    assert (whole.partial, whole.text) == (False, "Zubrow")


def test_a_run_is_recorded_with_what_repeats_it(book):
    document = book.deps.documents.list()[0]
    answer = book.with_engine(model(copies=SENTENCE, name="parrot")).ask(Ask(f" {QUESTION} ", (document.id,), seed=7))

    record = book.deps.runs.get(answer.run_id)
    assert (record.question, record.model, record.reader, record.status) == (QUESTION, "parrot", "retrieve", "done")
    assert record.document_ids == (document.id,)
    assert record.settings["seed"] == 7
    assert record.prompt_hashes == hashes(("extract", "reason"))
    assert from_json(record.answer) == answer == from_json(to_json(answer))
    claims = book.deps.runs.claims(answer.run_id)
    assert [quote.text for quote in claims[0].quotes] == [quote.text for quote in answer.quotes]
    steps = book.deps.runs.steps(answer.run_id)
    assert answer.usage.calls == len(steps)
    assert answer.usage.prompt_tokens == sum(step.prompt_tokens for step in steps)


def test_slots_in_a_document_or_a_question_are_text(desk):
    desk.add("The template {{question}} of Freedonia holds {{passage}} and {{document}}. Nothing else.")
    engine = model(says="It holds {{quotes}}")
    answer = desk.with_engine(engine).ask("What does the template {{passage}} of Freedonia holds?")

    first = next(request for request in engine.requests if is_extract(request))
    assert "The template {{question}} of Freedonia holds {{passage}} and {{document}}." in first.messages[-1].content
    assert "What does the template {{passage}} of" in first.messages[-1].content
    assert answer.text == "It holds {{quotes}}"
    assert_verbatim(desk, answer)


def test_the_budget_is_kept(book):
    engine = model(says="word " * 50)
    answer = book.with_engine(engine).ask(Ask(QUESTION, budget=Budget(passages=2, quotes=1, answer_tokens=3)))

    assert len(answer.quotes) == 1
    passages = [chunk for chunk in book.chunks() if any(p.start <= chunk.start < p.end for p in answer.coverage.parts)]
    assert len(passages) == 2
    assert answer.text == "word word word"


def test_the_model_reads_only_the_chosen_documents(book):
    other = book.add("The capital of Freedonia is Wrongtown, says this forgery. " * 3, "forgery.txt")
    engine = model(copies="")
    answer = book.with_engine(engine).ask(Ask(QUESTION, (other.id,)))

    assert {quote.document_id for quote in answer.quotes} == {other.id}
    assert all("Zubrow" not in request.messages[-1].content for request in engine.requests)
    assert answer.coverage.total == other.characters


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (Ask("  \n"), QuestionEmpty),
        (Ask(QUESTION, reader="psychic"), ReaderUnknown),
        (Ask(QUESTION, ("0" * 64,)), DocumentMissing),
    ],
)
def test_a_question_that_cannot_be_put_leaves_no_run(book, ask, error):
    with pytest.raises(error):
        book.ask(ask)
    assert book.deps.runs.list() == []


def test_an_empty_library_says_what_to_do(desk):
    with pytest.raises(NothingToRead, match="longleaf add FILE"):
        desk.ask(QUESTION)


WORDS = "king bridge river not 12 15 1887 crowned built Zubrow wheat farm the of in".split()
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=2, max_size=9).map(
    lambda words: " ".join(words).capitalize() + "."
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from([" ", "\n", "\n\n"]).flatmap(lambda gap: SENTENCES.map(lambda s: s + gap)),
        min_size=1,
        max_size=30,
    ),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
    st.lists(SENTENCES, min_size=1, max_size=3),
)
def test_every_quote_is_the_documents_own_characters(desk, parts, asked, replies):
    desk.add("".join(parts))
    answer = desk.with_engine(ScriptedEngine([*replies, parts[0], "... ".join(parts[:2])])).ask(" ".join(asked))

    assert_verbatim(desk, answer)
    assert all(quote.text.strip() and quote.status != "missing" for quote in answer.quotes)
    assert answer.found == bool(answer.quotes)
    spans = sorted((quote.document_id, quote.start, quote.end) for quote in answer.quotes)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(spans))


def test_attention_reorders_what_search_found(book, monkeypatch):
    """The sentence the question looks at most comes before one that search had just ahead of it."""
    ask = Ask("Was the king crowned, and was the bridge built?", budget=Budget(quotes=2), reader="retrieve")
    engine = model(attention=True)
    plain = book.with_engine(engine).ask(ask)
    first, second = (quote.text for quote in plain.quotes)
    monkeypatch.setattr(
        ScriptedEngine,
        "score_context",
        lambda self, question, units, stop=None: Scores(
            tuple(9.0 if unit == second else 0.0 for unit in units), ((0, 0),), 9, Usage(1, 9)
        ),
    )
    reranked = book.with_engine(engine).ask(replace(ask, options=Options(rerank=True)))

    assert [quote.text for quote in reranked.quotes] == [second, first]
    assert "rerank" in [step.node for step in book.deps.runs.steps(reranked.run_id)]
    assert_verbatim(book, reranked)


def test_a_model_without_attention_says_that_it_did_not_rerank(book):
    answer = book.with_engine(model(copies=SENTENCE)).ask(Ask(QUESTION, options=Options(rerank=True)))
    assert answer.found
    assert any("not reranked" in note for note in answer.coverage.notes)


def test_quotes_speak_of_every_name_of_the_question(desk):
    """By rank alone both quotes would be about one of the two."""
    first = "".join(
        f"Nanda Devi is a mountain, and which mountain is higher depends on reading {n}. " for n in range(6)
    )
    desk.add(f"{first}\n\nBroad Peak rises to 8,051 metres.\n\n{BOOK}", "peaks.txt")
    question = "Which mountain is higher, Nanda Devi or Broad Peak?"
    asked = Ask(question, budget=Budget(quotes=2), reader="retrieve")
    quotes = [quote.text for quote in desk.with_engine(model(copies='"', says="Broad Peak")).ask(asked).quotes]
    assert len(quotes) == 2
    assert quotes[0].startswith("Nanda Devi is")
    assert quotes[1] == "Broad Peak rises to 8,051 metres."


@pytest.mark.parametrize(
    ("question", "shown"), [("How high is Broad Peak?", 1), ("Is Broad Peak in Asia or Europe?", 3)]
)
def test_more_is_read_around_the_quotes_of_a_question_of_several_names(desk, question, shown):
    lines = [f"Line {n} is about weather. " for n in range(8)]
    text = "".join([*lines[:4], "Broad Peak is a high mountain in Asia. ", *lines[4:]])
    desk.add(text, "peak.txt")
    engine = model(copies="Broad Peak is a high mountain in Asia.")
    desk.with_engine(engine).ask(Ask(question, budget=Budget(quotes=1), reader="retrieve"))
    assert [n for n in range(8) if f"Line {n} " in _told(engine)] == list(range(4 - shown, 4 + shown))


def _told(engine, request=-1):
    return engine.requests[request].messages[-1].content.split("<text>\n")[1].split("\n</text>")[0]


def two_views(quotes, passages, *, says=("by the quotes", "by the passages"), **options):
    """Says the first from quotes and the second from passages; `quotes` and `passages` are the leads of a denial."""
    script = {"answer": says[0], "answer-2": says[1]}
    leads = {"answer": quotes, "answer-2": passages}
    return ScriptedEngine(
        lambda request: SENTENCE if is_extract(request) else script[request.id],
        lead=lambda request: leads.get(request.id),
        **options,
    )


@pytest.mark.parametrize(
    ("quotes", "passages", "said"),
    [(-5.0, -2.7, "by the quotes"), (-5.0, -2.8, "by the passages"), (-1.0, 3.0, "by the quotes")],
)
def test_quotes_answer_where_they_do_so_much_more_clearly_than_the_passages(book, quotes, passages, said):
    engine = two_views(quotes, passages)
    working = book.with_engine(engine)
    assert working.ask(QUESTION).text == said
    assert [event.text for event in working.events if isinstance(event, Wording)] == [said]
    assert _told(engine, -2).endswith(SENTENCE)
    assert "Farm 3 grew" not in _told(engine, -2)
    assert "Farm 3 grew" in _told(engine)
    assert _told(engine).endswith(f"\n\n{SENTENCE}")


def test_a_model_that_gives_no_lead_answers_from_the_quotes(book):
    assert book.with_engine(two_views(None, -9.0)).ask(QUESTION).text == "by the quotes"
    assert book.with_engine(two_views(-5.0, None)).ask(QUESTION).text == "by the quotes"


@pytest.mark.parametrize(("question", "sure"), [(QUESTION, -6.0), ("Was Freedonia or Zubrow crowned in 1887?", -10.0)])
def test_where_the_quotes_answer_surely_the_passages_are_not_asked(book, question, sure):
    """Of a question of several names more is wanted."""
    surely, less = two_views(sure - 0.1, -99.0), two_views(sure + 0.1, -99.0)
    answer = book.with_engine(surely).ask(Ask(question, reader="retrieve"))
    assert (answer.text, surely.requests[-1].id) == ("by the quotes", "answer")
    assert answer.usage.calls == 3 + 1
    assert book.with_engine(less).ask(Ask(question, reader="retrieve")).text == "by the passages"


def test_where_the_quotes_deny_the_passages_are_not_asked(book):
    engine = two_views(0.5, -99.0, says=("Not in the text.", "wheat"))
    answer = book.with_engine(engine).ask(QUESTION)
    assert (answer.found, engine.requests[-1].id) == (False, "answer")


def test_what_a_passage_holds_and_no_quote_does_is_quoted_from_it(book):
    engine = two_views(0.0, -9.0, says=("Zubrow", "Farm 3 grew wheat"))
    answer = book.with_engine(engine).ask(Ask(QUESTION, budget=Budget(quotes=1), reader="retrieve"))
    assert answer.text == "Farm 3 grew wheat"
    assert answer.quotes[0].text.startswith("Farm 3 grew wheat, barley")
    assert len(answer.quotes) == 1
    assert_verbatim(book, answer)


def test_passages_are_left_out_that_the_window_does_not_hold(book):
    asked = Ask("Was Freedonia or Zubrow crowned in 1887?", reader="retrieve")
    roomy, narrow = two_views(0.0, -9.0), two_views(0.0, -9.0, window=260)
    book.with_engine(roomy).ask(asked)
    answer = book.with_engine(narrow).ask(asked)
    assert answer.text == "by the passages"
    assert len(_told(narrow)) < len(_told(roomy))


def test_the_estimate_counts_both_views(book):
    for engine, calls in ((two_views(0.0, -9.0), 2), (model(copies=SENTENCE), 1)):
        deps = book.with_engine(engine).deps
        told = reader("retrieve").estimate(Ask(QUESTION, reader="retrieve"), deps)
        assert told.calls == 3 + calls
