"""Every reader, given what should not be: each case ends in a clear outcome, and documents are read, never obeyed."""

import re

import pytest
import scripts
from injections import INJECTIONS

from longleaf.agents.errors import BudgetTooSmall, NothingToRead, QuestionEmpty
from longleaf.agents.reader import Ask, Budget
from longleaf.agents.registry import readers
from longleaf.agents.run import NOT_FOUND
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.errors import WindowExceeded
from longleaf.engine.gather import Gather

NAMES = sorted(readers())
WHOLE = sorted(name for name, reader in readers().items() if reader.whole)
SMALL = Budget(part_tokens=80, memory_tokens=48, members=3)
LONG = scripts.BOOK + "".join(f"\n\nIn year {n} of the realm nothing of note happened at all. " for n in range(300))


def engine(reader, **options):
    return ScriptedEngine(getattr(scripts, reader, lambda request: scripts.SENTENCE), attention=True, **options)


def ask(reader, question=scripts.QUESTION, **options):
    return Ask(question, reader=reader, budget=options.pop("budget", SMALL), **options)


def assert_verbatim(desk, answer):
    for quote in answer.quotes:
        text = desk.deps.shelf.text(quote.document_id)
        assert text.characters[quote.start : quote.end] == quote.text


@pytest.mark.parametrize("reader", NAMES)
@pytest.mark.parametrize("question", ["", "  \n\t "])
def test_an_empty_question_is_refused_before_a_call_is_made(desk, reader, question):
    desk.add(scripts.BOOK)
    model = engine(reader)
    with pytest.raises(QuestionEmpty, match="longleaf ask FILE"):
        desk.with_engine(model).ask(ask(reader, question))
    assert model.requests == []
    assert desk.deps.runs.list() == []


@pytest.mark.parametrize("reader", NAMES)
def test_an_empty_library_is_named(desk, reader):
    with pytest.raises(NothingToRead, match="longleaf add FILE"):
        desk.with_engine(engine(reader)).ask(ask(reader))


@pytest.mark.parametrize("reader", NAMES)
def test_a_document_longer_than_the_window_is_read_or_refused_never_cut(desk, reader):
    desk.add(LONG)
    model = engine(reader, window=900)
    if reader == "direct":
        with pytest.raises(WindowExceeded, match="Use `--reader retrieve`"):
            desk.with_engine(model).ask(ask(reader))
        return
    answer = desk.with_engine(model).ask(ask(reader))
    assert answer.found
    assert not answer.partial
    assert_verbatim(desk, answer)
    assert answer.coverage.total == len(LONG)
    if readers()[answer.reader].whole:
        told = sum(part.end - part.start for part in answer.coverage.parts)
        assert told == len(LONG), "every character was read, or is said to have been left out"


@pytest.mark.parametrize("reader", sorted(set(WHOLE) - {"direct", "attention", "kv"}))  # these take what fits
def test_a_part_that_does_not_fit_the_window_is_refused_with_the_setting(desk, reader):
    desk.add(LONG)
    with pytest.raises((BudgetTooSmall, WindowExceeded), match=r"read\.part_tokens") as raised:
        desk.with_engine(engine(reader, window=400)).ask(ask(reader, budget=Budget(part_tokens=5000)))
    assert "400" in str(raised.value)


@pytest.mark.parametrize("reader", sorted(set(WHOLE) - {"direct"}))
def test_a_budget_below_one_chunk_splits_the_chunk(desk, reader):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(engine(reader)).ask(ask(reader, budget=Budget(part_tokens=12, memory_tokens=48)))
    assert answer.coverage.read == answer.coverage.total == len(scripts.BOOK)
    assert_verbatim(desk, answer)


@pytest.mark.parametrize("reader", NAMES)
def test_a_question_in_another_language_ends_in_checked_quotes_or_in_not_found(desk, reader):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(engine(reader)).ask(ask(reader, "Quelle est la capitale de Freedonia, s'il vous plaît ?"))
    assert_verbatim(desk, answer)
    assert answer.found == bool(answer.quotes)
    if not answer.found:
        assert answer.text == NOT_FOUND


@pytest.mark.parametrize("reader", NAMES)
def test_a_question_of_no_words_ends_without_an_error(desk, reader):
    desk.add(scripts.BOOK)
    answer = desk.with_engine(engine(reader)).ask(ask(reader, "?!… 🤷"))
    assert_verbatim(desk, answer)


@pytest.mark.parametrize("reader", sorted(set(NAMES) - {"direct"}))
def test_documents_that_contradict_each_other_are_both_quoted(desk, reader):
    filler = "".join(f"Farm {n} grew rye and oats on {n} acres of good land. " for n in range(25))
    one = desk.add(f"The capital of Freedonia is Zubrow.\n\n{filler}", "one.txt")
    two = desk.add(f"The capital of Freedonia is Malko.\n\n{filler.replace('rye', 'wheat')}", "two.txt")

    def says(request):
        content = request.messages[-1].content
        names = [name for name in ("Zubrow", "Malko") if f"Freedonia is {name}" in content]
        return f"The capital of Freedonia is {names[-1]}." if names else "nothing"

    answer = desk.with_engine(Gather(ScriptedEngine(says, attention=True))).ask(ask(reader))
    assert {quote.document_id for quote in answer.quotes} == {one.id, two.id}
    assert_verbatim(desk, answer)


@pytest.mark.parametrize("reader", NAMES)
def test_a_document_of_injections_is_read_between_its_marks_and_not_obeyed(desk, reader):
    """What a document says stands between <text> and </text> of the user's turn, and nothing in it can end that."""
    desk.add(scripts.BOOK.replace("\n\n", "\n\n" + "\n\n".join(INJECTIONS) + "\n\n", 1))
    model = engine(reader)
    answer = desk.with_engine(model).ask(ask(reader))

    assert answer.found
    assert_verbatim(desk, answer)
    assert model.requests
    for request in model.requests:
        assert [message.role for message in request.messages][-1] == "user"
        for message in request.messages[:-1]:
            assert "BANANA" not in message.content
            assert "Freedonia" not in message.content
        system = " ".join(message.content for message in request.messages[:-1])
        assert "instruction" in system, "the prompt states what the text is"
        outside = re.sub(r"<text>\n.*?\n</text>", "", request.messages[-1].content, flags=re.DOTALL)
        assert "</text" not in outside.lower()
        for injection in INJECTIONS:
            assert injection.split("\n")[0][:40] not in outside, request.id


@pytest.mark.parametrize("reader", NAMES)
def test_a_model_that_obeys_the_document_cannot_make_up_a_quote(desk, reader):
    """Even a model that was taken over gives quotes that stand in the document, or none."""
    desk.add(scripts.BOOK.replace("\n\n", "\n\n" + INJECTIONS[0] + "\n\n", 1))
    answer = desk.with_engine(ScriptedEngine(["BANANA"], attention=True)).ask(ask(reader))
    assert_verbatim(desk, answer)
    assert answer.found == bool(answer.quotes)
    if answer.found and answer.text == "BANANA":
        assert any("BANANA" in note for note in answer.coverage.notes) or any(
            "BANANA" in quote.text for quote in answer.quotes
        )
