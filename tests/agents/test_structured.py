"""`structured`: a typed memory that the model edits, each entry held up by sentences that code found."""

import json

import pytest
import scripts
from injections import INJECTIONS

from longleaf.agents.errors import BudgetTooSmall, SchemaUnknown
from longleaf.agents.reader import Ask, Budget, MemoryChanged, Options, QuoteFound, Reading, Wording
from longleaf.agents.registry import reader
from longleaf.agents.run import NOT_FOUND
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Grammar
from longleaf.engine.errors import EngineFailed
from longleaf.engine.grammar import Check

SMALL = Budget(part_tokens=64, memory_tokens=48)
FILLER = "".join(f"Farm {n} grew wheat, barley and rye on {n + 10} acres of good land. " for n in range(30))
BOOK = (
    f"The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\n{FILLER}\n\n"
    f"The bridge of Zubrow was built by Anna Keller in 1887.\n\n{FILLER.replace('rye', 'oats')}\n\n"
    "In 1903 the bridge of Zubrow was rebuilt in stone by Karl Brandt.\n\n"
)
BRIDGE = "Who built the bridge of Zubrow?"


def ask(question=BRIDGE, *, budget=SMALL, **options):
    return Ask(question, reader="structured", budget=budget, options=Options(**options))


def reply(*items):
    return json.dumps({"edits": [dict(zip(("field", "key", "value"), item, strict=True)) for item in items]})


def text_of(request):
    """The part that a request holds."""
    return request.messages[-1].content.rpartition("<text>\n")[2].partition("\n</text>")[0]


def builders(request):
    """A model that notes who built the bridge."""
    if request.id == "answer":
        return "Anna Keller built it and Karl Brandt rebuilt it."
    part = text_of(request)
    if "Anna Keller" in part:
        return reply(("people", "Anna Keller", "built the bridge of Zubrow in 1887"))
    if "Karl Brandt" in part:
        return reply(("people", "Karl Brandt", "rebuilt the bridge of Zubrow in 1903"))
    return reply()


@pytest.fixture
def book(desk):
    desk.add(BOOK, "book.txt")
    return desk


def assert_verbatim(desk, answer):
    for quote in answer.quotes:
        text = desk.deps.shelf.text(quote.document_id)
        assert text.characters[quote.start : quote.end] == quote.text


def lines(desk, answer):
    return [line for line in desk.deps.versions.latest(answer.run_id).lines if not line.out]


def test_entries_from_far_apart_parts_meet_in_the_answer(book):
    engine = ScriptedEngine(builders)
    answer = book.with_engine(engine).ask(ask())

    assert (answer.text, answer.found) == ("Anna Keller built it and Karl Brandt rebuilt it.", True)
    quotes = {quote.text: quote.by for quote in answer.quotes}
    assert quotes["The bridge of Zubrow was built by Anna Keller in 1887."] == "model"
    assert quotes["In 1903 the bridge of Zubrow was rebuilt in stone by Karl Brandt."] == "model"
    claims = {claim.about: claim for claim in answer.claims}
    assert claims["people: Anna Keller"].text == "built the bridge of Zubrow in 1887"
    assert claims["people: Karl Brandt"].quotes[0].text.endswith("Karl Brandt.")
    assert_verbatim(book, answer)
    last = engine.requests[-1]
    assert "- Anna Keller: built the bridge of Zubrow in 1887" in last.messages[-1].content


def test_every_part_is_read_once_in_order_and_coverage_says_so(book):
    engine = ScriptedEngine(builders)
    working = book.with_engine(engine)
    answer = working.ask(ask())

    *reads, last = [request.id for request in engine.requests]
    assert reads == [f"part-{n}" for n in range(len(reads))]
    assert (len(reads) > 10, last) == (True, "answer")
    assert answer.coverage.read == answer.coverage.total == len(BOOK)
    assert "".join(text_of(request) for request in engine.requests[:-1]).replace("\n", "").replace(" ", "") == (
        BOOK.replace("\n", "").replace(" ", "")
    )
    events = [event for event in working.events if isinstance(event, Reading)]
    assert [event.chunk for event in events] == list(range(1, len(reads) + 1))
    kinds = [type(event) for event in working.events if not isinstance(event, (Reading, MemoryChanged))]
    assert kinds == sorted(kinds, key=[QuoteFound, Wording].index)


def test_the_memory_goes_from_part_to_part(book):
    engine = ScriptedEngine(builders)
    book.with_engine(engine).ask(ask())

    seen = [request.messages[-1].content for request in engine.requests[:-1]]
    first = next(place for place, content in enumerate(seen) if "by Anna Keller" in content)
    assert all("none yet" in content or "Freedonia is" in content for content in seen[:first])
    assert all("- Anna Keller: built the bridge" in content for content in seen[first + 1 :])


def test_replies_are_held_to_the_schema_of_the_form(book):
    engine = ScriptedEngine(builders)
    book.with_engine(engine).ask(ask())

    for request in engine.requests[:-1]:
        check = Check(request.sampling.grammar)
        assert check.whole(builders(request))
        assert not check.whole(reply(("poems", "Anna", "x")))
    assert engine.requests[-1].sampling.grammar is None


def test_a_key_that_is_there_gets_its_new_value_and_keeps_its_sources(book):
    def says(request):
        if request.id == "answer":
            return "Karl Brandt"
        part = text_of(request)
        if "Anna Keller" in part:
            return reply(("facts", "bridge of Zubrow", "built by Anna Keller in 1887"))
        if "Karl Brandt" in part:
            return reply(("facts", "Bridge of ZUBROW", "rebuilt by Karl Brandt in 1903"))
        return reply()

    working = book.with_engine(ScriptedEngine(says))
    answer = working.ask(ask())

    (line,) = [line for line in lines(book, answer) if line.by == "model"]
    assert line.text == "facts/Bridge of ZUBROW: rebuilt by Karl Brandt in 1903"
    assert len(line.spans) == 2
    change = next(event for event in reversed(working.events) if isinstance(event, MemoryChanged))
    assert change.dropped == ("facts/bridge of Zubrow: built by Anna Keller in 1887",)
    assert change.added == (line.text,)


def test_what_no_sentence_holds_does_not_enter_the_memory(book):
    def says(request):
        if request.id == "answer":
            return "Anna Keller"
        if "Anna Keller" in text_of(request):
            return reply(
                ("people", "Anna Keller", "built the bridge of Zubrow in 1901"),
                ("people", "Otto Falk", "built the bridge of Zubrow in 1887"),
                ("people", "Anna Keller", "built the bridge of Zubrow"),
            )
        return reply()

    answer = book.with_engine(ScriptedEngine(says)).ask(ask())

    held = [line.text for line in lines(book, answer) if line.by == "model"]
    assert held == ["people/Anna Keller: built the bridge of Zubrow"]
    assert any("2 of 3 notes that the model took" in note for note in answer.coverage.notes)
    away = [
        line for version in book.deps.versions.list(answer.run_id) for line in version.lines if line.mark != "supported"
    ]
    assert {line.out for line in away} == {"no sentence of the part holds it"}
    assert "Otto Falk" not in book.deps.versions.latest(answer.run_id).text


def test_a_sentence_that_speaks_to_the_question_is_kept_though_the_model_overlooks_it(book):
    answer = book.with_engine(ScriptedEngine(lambda request: reply() if request.id != "answer" else "Zubrow")).ask(
        ask("What is the capital of Freedonia?")
    )

    assert (answer.found, answer.text) == (True, "Zubrow")
    first = answer.quotes[0]
    assert (first.text, first.by) == ("The capital of Freedonia is Zubrow.", "search")
    assert len(answer.claims) == 1
    assert_verbatim(book, answer)


@pytest.mark.parametrize("said", ["", "Sure! Here are the notes: none.", '{"edits": [{"field": "people", "key":', "{}"])
def test_a_model_that_says_nonsense_still_gives_an_honest_answer(book, said):
    answer = book.with_engine(ScriptedEngine([said])).ask(ask())
    assert answer.found
    assert answer.quotes[0].by == "search"
    assert "bridge of Zubrow" in answer.quotes[0].text
    cut = said.startswith('{"edits')
    assert any("held no notes" in note for note in answer.coverage.notes) != cut
    assert_verbatim(book, answer)


def test_what_the_text_does_not_answer_is_not_found_and_no_answer_is_worded(book):
    engine = ScriptedEngine(lambda request: reply(("facts", "jazz", "was invented by Anna Keller")))
    answer = book.with_engine(engine).ask(ask("What did jazz trumpets cost in Vienna?"))

    assert (answer.found, answer.text, answer.claims) == (False, NOT_FOUND, ())
    assert "answer" not in [request.id for request in engine.requests]
    assert answer.coverage.read == len(BOOK)


def test_the_memory_stays_within_its_budget_and_keeps_what_speaks_to_the_question(book):
    def says(request):
        if request.id == "answer":
            return "Anna Keller"
        part = text_of(request)
        if "Anna Keller" in part:
            return builders(request)
        farms = [sentence for sentence in part.split(". ") if sentence.startswith("Farm ")]
        found = (sentence.split(" grew ", 1) for sentence in farms[:2] if " grew " in sentence)
        return reply(*(("facts", farm, f"grew {rest.strip('.')}") for farm, rest in found))

    answer = book.with_engine(ScriptedEngine(says)).ask(ask())

    versions = book.deps.versions.list(answer.run_id)
    assert all(version.tokens <= SMALL.memory_tokens for version in versions)
    assert max(version.tokens for version in versions) > SMALL.memory_tokens // 2
    assert any(version.dropped for version in versions)
    assert any("Anna Keller" in line.text for line in lines(book, answer))
    assert [version.sequence for version in versions] == list(range(1, len(versions) + 1))


def test_the_model_may_make_the_schema(book):
    made = '{"fields": [{"name": "builders", "holds": "a person: what the person built"}]}'

    def says(request):
        if request.id == "form":
            return made
        return builders(request).replace('"people"', '"builders"')

    engine = ScriptedEngine(says)
    answer = book.with_engine(engine).ask(ask(schema="generate"))

    assert engine.requests[0].id == "form"
    assert "Farm" not in engine.requests[0].messages[-1].content
    assert "- builders: a person: what the person built" in engine.requests[1].messages[-1].content
    assert "builders: Anna Keller" in [claim.about for claim in answer.claims]


def test_a_schema_that_the_model_cannot_make_is_replaced_and_said(book):
    answer = book.with_engine(
        ScriptedEngine(lambda request: "ships" if request.id == "form" else builders(request))
    ).ask(ask(schema="generate"))
    assert any("no schema that can be used" in note and "people" in note for note in answer.coverage.notes)
    assert "people: Anna Keller" in [claim.about for claim in answer.claims]


def test_a_summary_holds_what_is_spread_over_the_text(book):
    engine = ScriptedEngine(lambda request: "Farms and a bridge." if request.id == "answer" else reply())
    answer = book.with_engine(engine).ask(ask("Summarise the book.", task="summary"))

    assert (answer.found, answer.text) == (True, "Farms and a bridge.")
    starts = sorted(span.start for line in lines(book, answer) for span in line.spans)
    assert starts[0] < len(BOOK) / 3
    assert starts[-1] > 2 * len(BOOK) / 3
    assert "Write a summary" in engine.requests[-1].messages[0].content


def test_an_unknown_schema_is_refused_with_those_there_are(book):
    with pytest.raises(SchemaUnknown, match="generate, facts"):
        book.with_engine(ScriptedEngine(builders)).ask(ask(schema="poems"))


def test_a_part_that_does_not_fit_the_window_is_refused(book):
    engine = ScriptedEngine(builders, window=300)
    with pytest.raises(BudgetTooSmall, match=r"read\.part_tokens"):
        book.with_engine(engine).ask(ask())
    assert engine.requests == []


def test_an_engine_without_grammars_is_asked_without_one(book):
    class Plain(ScriptedEngine):
        @property
        def card(self):
            from dataclasses import replace

            return replace(super().card, capabilities=frozenset({"prefix"}))

    engine = Plain(builders)
    answer = book.with_engine(engine).ask(ask())
    assert all(request.sampling.grammar is None for request in engine.requests)
    assert "people: Anna Keller" in [claim.about for claim in answer.claims]


def test_the_estimate_is_the_most_it_costs(book):
    for schema in ("auto", "generate"):
        put = ask(schema=schema)
        estimate = reader("structured").estimate(put, book.deps)
        engine = ScriptedEngine(builders)
        usage = book.with_engine(engine).ask(put).usage
        assert usage.calls == estimate.calls
        assert usage.prompt_tokens <= estimate.prompt_tokens <= 3 * usage.prompt_tokens
        assert usage.generated_tokens <= estimate.generated_tokens


def test_injections_are_delimited_and_change_no_prompt(book):
    for place, text in enumerate(INJECTIONS):
        book.add(f"{text} The bridge of Zubrow is grey.", f"{place}.txt")
    engine = ScriptedEngine(builders)
    answer = book.with_engine(engine).ask(ask())
    assert_verbatim(book, answer)
    systems = {request.messages[0].content for request in engine.requests}
    assert len(systems) == 2
    for request in engine.requests:
        content = request.messages[-1].content
        assert content.lower().count("</text>") == content.count("<text>")


def test_a_closed_iterator_goes_on_to_the_same_answer(book):
    expected = book.with_engine(ScriptedEngine(builders)).ask(ask())
    events = book.with_engine(ScriptedEngine(builders, delay=0.002)).stream(ask())
    for event in events:
        if isinstance(event, Reading) and event.chunk == 7:
            break
    events.close()

    record = book.deps.runs.list()[0]
    assert record.status == "interrupted"
    engine = ScriptedEngine(builders)
    answer = book.with_engine(engine).resume(record.id)
    assert engine.requests[0].id in ("part-5", "part-6")
    assert (answer.text, answer.claims, answer.coverage) == (expected.text, expected.claims, expected.coverage)
    assert lines(book, answer) == lines(book, expected)


def test_an_error_midway_gives_what_the_memory_holds(book):
    def says(request):
        if request.id == "answer" or "oats" in text_of(request):
            raise EngineFailed("no more")
        return builders(request)

    answer = book.with_engine(ScriptedEngine(says)).ask(ask())
    assert (answer.partial, answer.found) == (True, True)
    assert answer.quotes[0].text == "The bridge of Zubrow was built by Anna Keller in 1887."
    assert 0 < answer.coverage.read < answer.coverage.total


def test_checkpoints_hold_no_text_of_documents_and_stay_small(book):
    def says(request):
        if request.id == "answer":
            raise EngineFailed("no more")
        return builders(request)

    answer = book.with_engine(ScriptedEngine(says)).ask(ask())
    with book.database.session() as session:
        connection = session.connection()
        rows = [
            row
            for table in ("checkpoints", "writes")
            for row in connection.exec_driver_sql(
                f"SELECT * FROM {table} WHERE thread_id = '{answer.run_id}'"
            ).fetchall()
        ]
    sizes = [sum(len(value) for value in row if isinstance(value, bytes)) for row in rows]
    held = b"".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    assert answer.run_id.encode() in held
    for word in (b"Keller", b"Lutz", b"wheat", b"1887"):
        assert word not in held
    assert max(sizes) < 4000


def test_grammars_of_all_forms_compile():
    from longleaf.agents.form import edit_schema, form_schema, forms

    for form in forms().values():
        Check(Grammar.json_schema(edit_schema(form)))
    Check(Grammar.json_schema(form_schema()))


def test_the_scripted_reader_goes_through_all_its_stages(desk):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(ScriptedEngine(scripts.structured)).ask(ask(scripts.QUESTION))
    assert answer.quotes[0].text == scripts.SENTENCE
    assert any(version.dropped for version in desk.deps.versions.list(answer.run_id))
