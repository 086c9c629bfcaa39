"""A conversation grows without bound and what is in view of it does not; nothing of it is lost."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.agents.history import NEW, fold, line, place, view
from longleaf.memory.conversations import Conversations
from longleaf.memory.database import Database
from longleaf.memory.errors import ConversationMissing
from longleaf.memory.records import TurnRecord
from longleaf.memory.runs import Runs

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def count(text):
    return len(text.split())


@pytest.fixture
def conversations(tmp_path):
    with Database.open(tmp_path / "longleaf.db") as database:
        yield Conversations(database)


def say(conversations, talk, number, answer="It is so. And more.", found=True, question=None):
    turn = TurnRecord(
        conversation_id=talk.id,
        ordinal=0,
        asked=f"and {number}?",
        question=question or f"What is number {number}?",
        document_ids=("d1",),
        run_id=f"run{number}",
        answer=answer,
        found=found,
        tokens=0,
        asked_at=NOON + timedelta(minutes=number),
    )
    from dataclasses import replace

    return conversations.append(replace(turn, tokens=count(line(turn))))


def test_a_summary_is_made_when_the_budget_is_passed_and_all_turns_stay(conversations):
    talk = conversations.start("t", NOON)
    made = []
    for number in range(1, 31):
        say(conversations, talk, number, f"It is {number}. And more.")
        made += [summary for summary in [fold(talk.id, conversations, 64, count)] if summary]
        assert view(talk.id, conversations).tokens <= 64

    assert len(made) > 2
    assert conversations.summaries(talk.id) == made
    assert len(conversations.turns(talk.id)) == 30
    history = view(talk.id, conversations)
    assert [turn.ordinal for turn in history.turns] == [*range(made[-1].up_to + 1, 31)]
    assert f"What is number {made[-1].up_to}? -> It is {made[-1].up_to}." in history.text
    assert made[-1].text.startswith("(")
    assert "earlier questions)" in made[-1].text.splitlines()[0]


def test_what_was_not_found_is_said_so(conversations):
    talk = conversations.start("t", NOON)
    assert line(say(conversations, talk, 1, "Not found in the document.", found=False)).endswith(" -> not found")


def test_nothing_is_folded_below_the_budget(conversations):
    talk = conversations.start("t", NOON)
    say(conversations, talk, 1)
    assert fold(talk.id, conversations, 64, count) is None
    assert view(talk.id, conversations).text == "What is number 1? -> It is so."


words = st.text("abc .?>-\n", min_size=1, max_size=60)


@given(st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=12), st.integers(4, 40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_summary_keeps_within_half_its_budget_whatever_is_said(tmp_path_factory, said, budget):
    with Database.open(tmp_path_factory.mktemp("history") / "longleaf.db") as database:
        conversations = Conversations(database)
        talk = conversations.start("t", NOON)
        for number, (question, answer, found) in enumerate(said):
            last = say(conversations, talk, number, answer, found, question)
            fold(talk.id, conversations, budget, count)
            history = view(talk.id, conversations)
            assert history.turns[-1] == last
            assert history.tokens <= max(budget, budget // 2 + last.tokens)
        assert all(summary.tokens <= budget // 2 for summary in conversations.summaries(talk.id))
        assert len(conversations.turns(talk.id)) == len(said)


def test_a_question_takes_its_documents_and_its_meaning_from_the_turn_before(conversations, tmp_path):
    with Database.open(tmp_path / "longleaf.db") as database:
        runs = Runs(database)
        talk = conversations.start("t", NOON)
        say(conversations, talk, 1, "4,000.", question="How many people lived in Zubrow in 1950?")

        at = place("and in 1972?", (), talk.id[:8], conversations, runs)
        assert (at.conversation, at.document_ids) == (talk.id, ("d1",))
        assert at.question == "How many people lived in Zubrow in 1972?"
        assert place("and in 1972?", ("d2",), talk.id, conversations, runs).document_ids == ("d2",)
        assert place("and in 1972?", (), NEW, conversations, runs).question == "and in 1972?"
        with pytest.raises(ConversationMissing):
            place("and in 1972?", (), "nothing", conversations, runs)
