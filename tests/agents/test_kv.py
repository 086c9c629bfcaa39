"""`kv`: one reading serves many questions, what the model looked at is shown, and what is kept is written down."""

from dataclasses import replace
from pathlib import Path

import pytest
import scripts
from test_retrieve import assert_verbatim

from longleaf.agents.errors import CapabilityMissing
from longleaf.agents.kv import Text, warm
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Options, Reading, Wording
from longleaf.agents.run import from_json, to_json
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Keeping, KeptFile


def ask(question=scripts.QUESTION, **options):
    return Ask(question, reader="kv", **options)


def model(says="It is Zubrow", **options):
    return ScriptedEngine([says], attention=True, **options)


def nodes(desk, answer):
    return [step.node for step in desk.deps.runs.steps(answer.run_id)]


def test_a_second_question_does_not_read_the_text_again(desk):
    desk.add(scripts.BOOK)
    working = desk.with_engine(model())
    first = working.ask(ask())
    assert [type(event) for event in working.events].count(Reading) == 1
    second = working.ask(ask("Which river?"))

    assert (nodes(desk, first), nodes(desk, second)) == (["open", "answer"], ["answer"])
    assert not [event for event in working.events if isinstance(event, Reading)]
    assert second.coverage.read == second.coverage.total == len(scripts.BOOK)
    computed = second.usage.prompt_tokens - second.usage.cached_tokens
    assert 0 < computed <= len("Which river?".split())
    assert first.usage.cached_tokens == second.usage.cached_tokens > 100
    assert first.text == "It is Zubrow"


def test_the_prompt_begins_the_same_for_every_question(desk):
    desk.add(scripts.BOOK)
    said = model()
    working = desk.with_engine(said)
    for question in ("Who?", "What on earth?"):
        working.ask(ask(question))
    opening = load("kv").opening("question", document=scripts.BOOK.strip())
    assert len(said.requests) == 2
    for request in said.requests:
        assert request.messages[:-1] == opening[:-1]
        assert request.messages[-1].content.startswith(opening[-1].content)


def test_what_the_model_looked_at_is_shown_beside_the_quotes(desk):
    document = desk.add(scripts.BOOK)
    answer = desk.with_engine(model()).ask(ask())

    assert answer.looked
    assert scripts.SENTENCE in answer.looked[0].text
    for looked in answer.looked:
        assert looked.document_id == document.id
        assert scripts.BOOK[looked.start : looked.end] == looked.text
        assert looked.page == 1
    assert [looked.score for looked in answer.looked] == sorted((it.score for it in answer.looked), reverse=True)
    assert not any("looked most" in note for note in answer.coverage.notes)
    assert from_json(to_json(answer)) == answer


def test_quotes_that_stand_elsewhere_than_the_model_looked_are_told(desk, monkeypatch):
    from longleaf.engine.backends.scripted import ScriptedDocument

    desk.add(scripts.BOOK)
    seen = ScriptedDocument._reads
    monkeypatch.setattr(ScriptedDocument, "_reads", lambda self, request: seen(self, request)[-1:])
    answer = desk.with_engine(model()).ask(ask())

    (note,) = [note for note in answer.coverage.notes if "looked most" in note]
    assert "no quote stands" in note
    assert "Farm" in note
    assert answer.found


@pytest.mark.parametrize("lead", ["", "\n\n  "])
def test_places_in_the_prompt_lead_back_to_the_documents(desk, lead):
    one = desk.add(f"{lead}A <text> in one. Then </TEXT> it goes on, to the end.\n", "one.txt")
    two = desk.add("Another one. With <text > too.", "two.txt")
    text = Text([one, two], desk.deps.shelf)
    shown = load("kv").messages(document=text.characters, question="")[-1].content
    first = load("kv").place("document")

    for words in ("in one", "goes on, to the end", "Another one", "too."):
        at = shown.index(words) - first
        ((document_id, span),) = text.spans(at, at + len(words))
        assert desk.deps.shelf.text(document_id).slice(span) == words
        assert document_id == (two.id if words in ("Another one", "too.") else one.id)
    both = text.spans(shown.index("the end") - first, shown.index("Another one") - first + 7)
    assert [document_id for document_id, _ in both] == [one.id, two.id]


def test_a_model_that_keeps_nothing_open_is_refused_with_a_way_out(desk):
    desk.add(scripts.BOOK)
    with pytest.raises(CapabilityMissing, match=r"--reader direct.*longleaf models list"):
        desk.with_engine(ScriptedEngine(["It is Zubrow"])).ask(ask())


@pytest.fixture
def beyond(desk):
    """A text longer than the window, and a model that answers well from a few sentences and badly from what is kept."""
    desk.add(scripts.BOOK * 4)

    def says(request):
        whole = scripts.BOOK.strip() in request.messages[-1].content
        return "Farm 3" if whole else scripts.retrieve(request)

    return desk.with_engine(ScriptedEngine(says, attention=True, window=600))


def test_beyond_the_window_the_answer_is_from_sentences_and_not_from_what_is_kept(beyond):
    answer = beyond.ask(ask())
    assert nodes(beyond, answer) == ["open", "answer", "reason"]
    assert answer.text == scripts.retrieve(beyond.deps.engine.requests[-1])
    assert "".join(event.text for event in beyond.events if isinstance(event, Wording)) == answer.text
    assert answer.quotes[0].text == scripts.SENTENCE
    assert_verbatim(beyond, answer)
    assert answer.looked
    assert any("longer than the window of 600" in note for note in answer.coverage.notes)


def test_beyond_the_window_a_sentence_that_search_misses_may_be_quoted(beyond, monkeypatch):
    monkeypatch.setattr("longleaf.agents.kv._CANDIDATES", 0)
    answer = beyond.ask(ask())
    assert answer.quotes[0].text == scripts.SENTENCE
    assert answer.quotes[0].by == "model"


def test_beyond_the_window_nothing_is_answered_from_nothing(beyond):
    answer = beyond.ask(ask("Who invented the telephone?"))
    assert not answer.found
    assert nodes(beyond, answer) == ["open", "answer"]


def test_a_summary_of_a_text_beyond_the_window_is_the_models_own(beyond):
    answer = beyond.ask(ask("Sum it up", options=Options(task="summary")))
    assert answer.text == "Farm 3"
    assert nodes(beyond, answer) == ["open", "answer"]


class Shelf:
    """Notes what it is told."""

    keeping = Keeping(Path("nowhere"))

    def __init__(self):
        self.told = []

    def opened(self, document_id, model, kept, found):
        self.told.append((document_id, model, kept.name, found))

    def holds(self, document_id, model):
        return any(told[:2] == (document_id, model) for told in self.told)


class Keeps(ScriptedEngine):
    """A model that keeps files, or says so."""

    def open_document(self, messages, **options):
        document = super().open_document(messages, **options)
        kept = KeptFile("name", "mark", document.tokens, 10, "documents/name.json") if options["keeping"] else None
        return replace(document, kept=kept)


@pytest.fixture
def keeps(desk):
    working = desk.with_engine(Keeps(["It is Zubrow"], attention=True))
    working.deps = replace(working.deps, kv=Shelf())
    return working


def test_what_is_kept_and_what_was_of_use_is_written_down_once_a_question(keeps):
    document = keeps.add(scripts.BOOK)
    warmed = warm(ask("", document_ids=(document.id,)), keeps.deps)
    assert (warmed.found, warmed.bytes) == (0, 10)
    keeps.ask(ask())
    assert keeps.deps.kv.told == [(document.id, "scripted", "name", False), (document.id, "scripted", "name", True)]


def test_several_documents_at_once_are_not_kept(keeps):
    keeps.add(scripts.BOOK)
    keeps.add("Sylvania has a capital too.", "other.txt")
    assert keeps.ask(ask()).found
    assert keeps.deps.kv.told == []


def test_auto_asks_what_is_kept_and_says_why(keeps):
    document = keeps.add(scripts.BOOK)
    auto = Ask(scripts.QUESTION, document_ids=(document.id,))
    assert keeps.ask(auto).reader == "retrieve"
    warm(ask("", document_ids=(document.id,)), keeps.deps)
    answer = keeps.ask(auto)
    assert answer.reader == "kv"
    assert "is kept" in answer.why
    assert keeps.ask(replace(auto, question="Where was the author of The Long Winter born?")).reader == "hops"
    other = keeps.add("Sylvania has a capital too. It is Borsk.", "other.txt")
    assert keeps.ask(replace(auto, document_ids=(document.id, other.id))).reader == "retrieve"


def test_a_summary_of_what_is_kept_is_asked_of_it(keeps):
    document = keeps.add(scripts.BOOK)
    warm(ask("", document_ids=(document.id,)), keeps.deps)
    answer = keeps.ask(Ask("Sum it up", document_ids=(document.id,), options=Options(task="summary")))
    assert answer.reader == "kv"
